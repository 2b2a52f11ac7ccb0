#!/bin/sh
# For start commands and logins: the variables of grid.env, and the grid's own Python first.
set -a
# shellcheck source=/dev/null
. /opt/grid/grid.env
PATH=/opt/grid/venv/bin:$PATH
set +a
