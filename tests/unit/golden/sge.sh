#!/bin/bash
#$ -S /bin/bash
#$ -notify
#$ -q long.q
#$ -P i03
#$ -pe mpi 4
#$ -l h_vmem=251M
#$ -l gpu=1
#$ -l h_rt=3601
#$ -l exclusive=true
#$ -l hostname=!(n1|n2)
#$ -l arch=lx-amd64
# job: written by zwrap for t-1.

# USR1 warns of a suspension, USR2 of the end (qsub(1), -notify). The wrapper handles both; this
# shell waits for it, and then ends as it was told to.
trap '' USR1
trap 'trap - USR2 EXIT; kill -USR2 $$' USR2
# 99 and 100 have meanings of their own for Grid Engine: run again, and wait for a person.
trap 'status=$?; case $status in 99|100) exit 1 ;; esac; exit $status' EXIT

# `zocalo.wrap` by name is this site's own; nothing else of the submitting host is on PATH.
export PATH=/w/.zwrap/t-1/bin:"$PATH"


cd -- /w || exit 111

true
