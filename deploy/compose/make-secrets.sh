#!/bin/sh
# Makes the files that compose.yaml mounts as secrets, in `secrets/` beside this script or in the folder named. Files that
# are there stay. The folder is closed to others; a container sees only the files it is given.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # the content comes by stdin; containers run as different users, so the file itself can be read
    file=$folder/$1
    content=$(cat)
    if [ ! -e "$file" ]; then
        printf '%s\n' "$content" >"$file"
    fi
    chmod 444 "$file"
}

random | keep ray_token
random | keep valkey_password
random | keep grafana_password
if [ ! -e "$folder/s3.json" ]; then
    admin=$(random) data=$(random) results=$(random)
    keep s3.json <<END
{"identities": [
  {"name": "admin", "credentials": [{"accessKey": "admin", "secretKey": "$admin"}],
   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
  {"name": "data", "credentials": [{"accessKey": "data", "secretKey": "$data"}],
   "actions": ["Read:ohlcv", "List:ohlcv"]},
  {"name": "results", "credentials": [{"accessKey": "results", "secretKey": "$results"}],
   "actions": ["Read:results", "List:results", "Write:results"]}
]}
END
    keep aws_credentials <<END
[data]
aws_access_key_id = data
aws_secret_access_key = $data

[results]
aws_access_key_id = results
aws_secret_access_key = $results
END
    keep aws_admin_credentials <<END
[admin]
aws_access_key_id = admin
aws_secret_access_key = $admin
END
fi
echo "secrets are in $folder"
