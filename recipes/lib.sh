# What the recipes share. LOOKFAR_DATA is the folder of raw data, LOOKFAR the command, PYTHON a Python with sentencepiece,
# RUNS where everything is written.
set -eu # a run that was stopped exits with 3, and what comes next needs it whole
cd "$(dirname "$0")/.."
LOOKFAR_DATA=${LOOKFAR_DATA:-../shared/data}
LOOKFAR=${LOOKFAR:-build/lookfar}
PYTHON=${PYTHON:-python3}
RUNS=${RUNS:-runs}
export PYTHONDONTWRITEBYTECODE=1
export OMP_WAIT_POLICY=passive # threads that wait leave the processor to others: these runs take hours

# train FOLDER OPTION...: begins the run, goes on with it when it was broken off, or leaves it when it is done.
train() {
    folder=$1
    shift
    if [ -f "$folder/model.gguf" ]; then
        echo "$folder: done"
    elif [ -f "$folder/checkpoint" ]; then
        "$LOOKFAR" train -o "$folder" --resume
    else
        "$LOOKFAR" train -o "$folder" "$@"
    fi
}
