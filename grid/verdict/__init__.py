"""What a session proves: the statistics of `grid.validation` over its rows and over trials that are run again."""
