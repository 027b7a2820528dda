#!/bin/bash
# name: written by zwrap for tok-1.

export A='two words'
export ZWRAP_TOKEN=tok-1
# `zocalo.wrap` by name is this site's own; nothing else of the submitting host is on PATH.
export PATH=/w/.zwrap/tok-1/bin:"$PATH"


cd -- '/data/it'"'"'s here' || exit 111

echo $A
zocalo.wrap --wrap x
