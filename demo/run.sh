#!/bin/sh
# Classify the demo photos, or the folder that PHOTOS names, and show the first rows. `make demo` runs this.
set -eu
cd "$(dirname "$0")/.."

show() {
    echo
    echo "\$ $*"
    "$@"
}

own=${PHOTOS:-}
case $own in
"")
    photos=demo/photos
    .venv/bin/python demo/photos.py "$photos"
    ;;
"~"/*) photos=$HOME${own#"~"} ;; # not every shell replaces the ~ in PHOTOS=~/Pictures
*) photos=$own ;;
esac

PATH=$PWD/.venv/bin:$PATH
rm -f demo/preds.csv demo/preds.csv.*
show gendercls classify "$photos" --out demo/preds.csv
show head -n 6 demo/preds.csv
if [ -z "$own" ]; then
    show tail -n 3 demo/preds.csv # the text, the cat and the truncated photo
fi
