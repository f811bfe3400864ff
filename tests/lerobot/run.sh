#!/bin/sh
# LeRobot itself opens what we write, drives our simulated servos with its own driver, and records with our plugin.
# LEROBOT_PYTHON=… selects an environment that has lerobot[feetech], pyzmq, torchvision, and `pip install . ./edge/lerobot_robot`;
# otherwise one is created in .venv-lerobot, with the torch of .venv and a torchvision without its compiled part.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${LEROBOT_PYTHON:-.venv-lerobot/bin/python}
stand_in=""
if [ -z "${LEROBOT_PYTHON:-}" ]; then
    stand_in="$PWD/tests/lerobot/stand_in"
    if [ ! -e .venv-lerobot/ready ] || [ tests/lerobot/run.sh -nt .venv-lerobot/ready ]; then
        echo "installing LeRobot 0.4.4 into .venv-lerobot (a minute, once)"
        .venv/bin/python -m venv .venv-lerobot
        .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
            > "$(.venv-lerobot/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/running.pth"
        pip="$python -m pip --disable-pip-version-check --quiet install"
        # Without its dependencies: it requires older releases of torch and OpenCV than the installed ones. The packages
        # that its programs import are listed here instead.
        $pip --no-deps lerobot==0.4.4 'accelerate<2' psutil 'torchvision==0.28.0' 'feetech-servo-sdk<2' 'rerun-sdk<0.27' \
            'gymnasium<2' cloudpickle farama-notifications 'diffusers<0.36' 'imageio<3' 'pyzmq<28'
        $pip 'datasets<5' 'draccus==0.10.0' 'huggingface-hub<0.36,>=0.34.2' 'deepdiff<9' 'packaging<26' 'pandas<3' \
            jsonlines einops termcolor
        $pip --no-deps -e . -e edge/lerobot_robot
        touch .venv-lerobot/ready
    fi
fi
.venv/bin/sefa-edge record --expert lift --episodes 3 -o "$work/demonstrations" --camera front
.venv/bin/sefa-edge run --engine edge/shipped/lift/model.onnx --episodes 2 --video none --record "$work/runs"
.venv/bin/sefa-edge dataset from-runs "$work/runs" -o "$work/from-runs" --task-name "lift the cube"
PYTHONPATH="$stand_in" HF_HUB_OFFLINE=1 HF_HOME="$work/hf" "$python" tests/lerobot/check.py "$work/demonstrations" "$work/from-runs"
.venv/bin/pytest tests/clients/test_lerobot_driver.py tests/clients/test_lerobot_plugin.py
