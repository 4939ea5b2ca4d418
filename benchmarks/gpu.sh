#!/usr/bin/env bash
# What is to be measured on a GPU, part by part: benchmarks/gpu.sh [tests|store|step|kmeans|table1|apart|rivals|faces ...], all of them by default.
# Each part can be run again and goes on where it stopped. WORK holds stores and runs, OUT what is worth keeping (a few MB).
# STEPS and SEEDS are of every part; without them each has its own.
# Beyond torch it needs numpy, pandas, pyarrow, scikit-learn, scipy, matplotlib, opencv, rich, safetensors, tensorboard, typer, pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} WORK=${WORK:-out/gpu} OUT=${OUT:-out/gpu/results}
mkdir -p "$WORK" "$OUT"
pipe() { "$PYTHON" -m gated_vae.pipelines.cli "$@"; }

for part in "${@:-tests store step kmeans table1 apart rivals faces}"; do for part in $part; do
    echo "== $part"
    case $part in
    tests) # compiling each of its small stacks would take most of the time
        TORCHDYNAMO_DISABLE=1 "$PYTHON" -m pytest -q -m cuda -o filterwarnings=default -p no:cacheprovider tests/pipelines/test_cuda.py ;;
    store)
        pipe preprocess dsprites --out "$WORK/store"
        pipe pair "$WORK/store" --share position=posX,posY --share rotation=orientation --share shape=shape --share size=scale ;;
    step)
        "$PYTHON" -m benchmarks.gpu step --device "$DEVICE" --work "$WORK" --out "$OUT" --sizes "${SIZES:-1,8,30,60}" \
            --repeats "${REPEATS:-200}"
        "$PYTHON" -m benchmarks.gpu plain --device "$DEVICE" --work "$WORK" --out "$OUT" --repeats "${REPEATS:-200}" ;;
    kmeans)
        [ "$DEVICE" = cpu ] || "$PYTHON" -c "import faiss; assert faiss.get_num_gpus()" 2>/dev/null || {
            echo "skipped: faiss has no GPU here"
            continue
        }
        "$PYTHON" -m benchmarks.gpu kmeans --device "$DEVICE" --points "${POINTS:-202599}" --work "$WORK" --out "$OUT" ;;
    table1) # gated and un-gated as two stacks, so that one half alone is a result
        for half in ungated gated; do
            pipe reproduce table1 "$WORK/store" --out "$WORK/table1" --only "*-$half" --stack 30 \
                --seeds "${SEEDS:-10}" --steps "${STEPS:-288000}" \
                --set lr=1e-4 --set schedule=constant --device "$DEVICE"
            cp "$WORK/table1/table1.parquet" "$OUT/"
        done ;;
    apart) # the best method at the paper's length
        pipe reproduce table1 "$WORK/store" --out "$WORK/apart" --only beta-composed_apart --stack 10 \
            --seeds "${SEEDS:-10}" --steps "${STEPS:-288000}" --device "$DEVICE"
        cp "$WORK/apart/table1.parquet" "$OUT/apart.parquet" ;;
    rivals) # scoring takes longer than training: a minute and more of one core for each run
        pipe reproduce rivals "$WORK/store" --out "$WORK/rivals" --only "${RIVALS:-*-beta[1248]}" --stack 12 \
            --seeds "${SEEDS:-3}" ${STEPS:+--steps "$STEPS"} --device "$DEVICE"
        cp "$WORK/rivals/rivals.parquet" "$OUT/" ;;
    faces)
        pipe simulate faces --out "$WORK/faces" --n "${FACES:-9000}" --seed 1
        pipe preprocess celeba --openface "$WORK/faces/processed" --identities "$WORK/faces/identity.txt" --out "$WORK/face-store"
        pipe cluster "$WORK/face-store" --rule independent:8 --draws 8
        pipe pair "$WORK/face-store" --share identity=identity
        pipe reproduce faces "$WORK/face-store" --out "$WORK/faces-runs" --only partners --stack 3 \
            --seeds "${SEEDS:-3}" ${STEPS:+--steps "$STEPS"} --truth "$WORK/faces/truth.parquet" --device "$DEVICE"
        cp "$WORK/faces-runs/faces.parquet" "$OUT/" ;;
    *) echo "There is no part $part." >&2; exit 2 ;;
    esac
done; done
