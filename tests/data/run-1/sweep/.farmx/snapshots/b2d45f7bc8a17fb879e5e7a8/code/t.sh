echo "$1" in $(basename "$LOGDIR")
