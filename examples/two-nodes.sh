#!/bin/sh
# The six stages on two machines: which is better, PSE or MSE? The same script, started on both in a folder that both see:
#
#   sh examples/two-nodes.sh 0 FIRST        on the machine whose name is FIRST
#   sh examples/two-nodes.sh 1 FIRST        on the other one
#
# An interrupted job goes on where it was: start it again on both.
set -eu
node=$1 first=$2

SOURCE=${SOURCE:-stl10}
EPOCHS=${EPOCHS:-100}
OUT=${OUT:-two-nodes}
PROCESSES=${PROCESSES:-gpu}  # on each machine; `gpu` is one for each GPU there
# torchrun's own choice is one thread a process, which is too few for what runs on processors.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}"

# Every command runs on both machines, which keeps them in step, also where one process does all the work.
# If the machines have several networks, GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the one that joins them.
pretext() {
  torchrun --nnodes 2 --node-rank "$node" --nproc-per-node "$PROCESSES" --master-addr "$first" --master-port 29500 \
    -m pretext "$@"
}

# The first process fetches the images, then all write their part of the shards.
pretext prepare-data "$SOURCE" --data-dir "$OUT/data"

for loss in mse pse; do
  run=$OUT/runs/$loss
  # --batch-size is that of all processes together, so that the learning curve is the one of a single process.
  pretext pretrain --loss "$loss" --epochs "$EPOCHS" --batch-size 128 --data-dir "$OUT/data" --out "$run"
  pretext extract-features "$run" --splits train,test --data-dir "$OUT/data"
  pretext probe "$run" --labels-per-class 1,4
  # Each process trains models of its own: five folds, and the few-label models.
  pretext fine-tune "$run" --labels-per-class 1,4 --epochs "$EPOCHS" --data-dir "$OUT/data"
done

pretext report "$OUT/runs" --out "$OUT/report"
