#!/bin/sh
# Installs a lock file's wheels, checked against their hashes, and leaves out what no trainer loads.
#   install.sh LOCK            into the virtual environment $VENV
#   install.sh LOCK PREFIX     only what $VENV lacks, into PREFIX, to be laid over $VENV
set -eu
lock=$1 prefix=${2:-$VENV}

# Given by images/build.sh where this machine needs them: see docs/images.md.
if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi
if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi

test -x "$VENV/bin/python" || python3 -m venv --without-pip "$VENV"
python3 -m pip --python "$VENV/bin/python" install --quiet --disable-pip-version-check --no-input --no-warn-script-location \
    --no-deps --require-hashes --only-binary :all: --prefix "$prefix" -r "$lock"

cd "$prefix"/lib/python3*/site-packages
find . -type d \( -name tests -o -name test \) ! -path './jinja2/*' -prune -exec rm -rf {} +
for pattern in conftest.py 'test_*.py' '*.pyx' '*.pxd' '*.h' '*.hpp' '*.c' '*.cpp' '*.a'; do
    find . -type f -name "$pattern" -delete
done
find . -type f -name '*.pyi' ! -path './librosa/*' -delete  # librosa reads its own, to import modules when they are used
# A copy of ONNX Runtime for programs in C, and its tools for changing models.
rm -rf onnxruntime/capi/libonnxruntime.so.* onnxruntime/tools onnxruntime/datasets onnxruntime/transformers \
    onnxruntime/quantization
# Matplotlib reads glyph names from fontTools and writes no fonts.
for part in cffLib colorLib cu2qu designspaceLib feaLib merge mtiLib otlLib pens qu2cu subset svgLib t1Lib ttLib ufoLib \
    varLib voltLib; do
    rm -rf "fontTools/$part"
done
rm -f fontTools/misc/bezierTools*
# Rich colours the source code of tracebacks; ours is printed plain, and none is in another language.
find . -path './pygments/lexers/*.py*' ! -name '__init__.*' ! -name '_mapping.*' ! -name 'python.*' -delete
# Pages are in English, German and Spanish.
find . -path './babel/locale-data/*.dat' ! -name root.dat ! -name 'en*' ! -name 'de*' ! -name 'es*' -delete
rm -rf matplotlib/mpl-data/sample_data matplotlib/backends/web_backend matplotlib/mpl-data/fonts/afm \
    matplotlib/mpl-data/fonts/pdfcorefonts sklearn/datasets/data sklearn/datasets/images cv2/data
# Symbols that only a debugger reads. The libraries that wheels carry in *.libs were laid out by hand; leave them.
find . -name '*.so' -type f ! -path './*.libs/*' -exec strip --strip-unneeded {} +
