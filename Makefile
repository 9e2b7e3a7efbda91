# `make` alone prints the targets, each with the line above it that begins with ##. Everything runs in .venv, which these
# targets make themselves. They need Python with venv and headers, a C++17 compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

SOURCES := $(shell find csrc cmake include python -type f -not -path '*/__pycache__/*') CMakeLists.txt pyproject.toml
# The newest build folder of `pip install`: its object files are what test_symbols.py looks into.
OBJECTS = $(shell ls -td build/cp*/ 2>/dev/null | head -n 1)

.DEFAULT_GOAL := help
.PHONY: install test bench docs help lint format check-workflows test-cpp test-peers test-sanitize test-tsan \
	test-realtime test-valgrind test-thorough test-exhaustive fuzz-load fuzz soak test-sse41 test-aarch64 test-armv7l \
	check-ports example-cpp count count-update count-peers mca bench-cpp bench-peers bench-rtneural bench-suite examples \
	examples-ocr examples-torch examples-scoring edge census compliance figures wheels check-dist \
	test-wheels check-wheels release-check clean

##@ For everybody

## Build the package and install it into .venv.
install: $(VENV)/.installed

# pytest alone runs every combination of a test's parameters.
## Run the C++ tests and the Python tests.
test: $(VENV)/.installed $(VENV)/.group-test test-cpp
	$(BIN)/python -m pytest -n auto --combinations=some --objects=$(OBJECTS) --cpp-tests=build/dev/tests/cpp

## Print the latency table of this machine.
bench: $(VENV)/.installed
	$(BIN)/fusedcell bench

## Build the guide as a site in build/docs, where no link leads nowhere. Needs Python 3.11.
docs: $(VENV)/.installed $(VENV)/.group-docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/doctrees . build/docs
	@echo 'build/docs/index.html'

## This list.
help:
	@awk '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^## / { line = substr($$0, 4) } \
	  /^[a-z][a-z0-9-]*:/ && line { sub(/:.*/, ""); printf "  make %-17s %s\n", $$0, line; line = "" }' Makefile

##@ For maintainers: style and types

## Check style, types and spelling of everything, and how easily pages are read.
lint: check-workflows $(VENV)/.installed $(VENV)/.group-lint
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/lint.sh

## Write the code as ruff and clang-format have it.
format: $(VENV)/.group-lint
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	git ls-files bench csrc examples include tests tools | grep -E '\.(c|cc|h)$$' | xargs $(BIN)/clang-format -i

## Hold .github/workflows against their schema and what is known to be unsafe; a part of lint.
check-workflows: $(VENV)/.group-lint
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github

##@ For maintainers: tests

## The C++ tests alone; a part of test.
test-cpp: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_cpp.sh dev

# Those that need no Keras are run by test.
WITHOUT_KERAS := $(patsubst %,tests/test_keras_%.py,calls errors files names process)
## The tests against PyTorch, Keras and ONNX Runtime, which test skips without them.
test-peers: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	$(BIN)/python -m pytest -n auto tests/test_reference_torch.py tests/test_reference_onnx.py tests/test_bench_peers.py \
	  tests/test_census.py tests/test_check.py tests/test_bench_model.py \
	  tests/test_docs.py tests/test_layers.py::test_the_same_as_pytorch \
	  tests/test_json_models.py::test_guitarml_is_what_pytorch_has_of_it \
	  tests/test_model_onnx_write.py \
	  $(filter-out $(WITHOUT_KERAS),$(wildcard tests/test_keras_*.py tests/test_*onnx_*.py tests/test_torch_*.py))

## The C++ and Python tests under AddressSanitizer and UndefinedBehaviorSanitizer.
test-sanitize: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_sanitize.sh

## The C++ tests of threads under ThreadSanitizer.
test-tsan: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_cpp.sh tsan

## The functions for real-time threads under RealtimeSanitizer. Installs a Clang.
test-realtime: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp .venv-clang/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_realtime.sh

## What can be run under Valgrind in a minute. Needs Valgrind.
test-valgrind: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_valgrind.sh

## Thousands of drawn cases for each test that draws them, others on each run; half an hour.
test-thorough: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=thorough --hypothesis-show-statistics

## sigmoid and tanh over all floats; minutes.
test-exhaustive: $(VENV)/.installed $(VENV)/.group-test
	$(BIN)/python -m pytest -m exhaustive

## The C++ reader of files under libFuzzer for SECONDS=60. Installs a Clang.
SECONDS ?= 60
fuzz-load: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp .venv-clang/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/fuzz_load.sh $(SECONDS)

# Corpora, findings and figures are in build/fuzz-python.
## Readers of files and arguments under AddressSanitizer; FUZZ_SECONDS=600, TARGETS="load onnx".
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.installed $(VENV)/.group-cpp $(VENV)/.group-test $(VENV)/.group-peers $(VENV)/.group-fuzz
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/fuzz.sh $(FUZZ_SECONDS) $(TARGETS)

## Ten million steps against float64, and a thousand streams that come and go; minutes.
soak: $(VENV)/.installed $(VENV)/.group-test
	PYTHONPATH=tests $(BIN)/python -m soak.drift
	PYTHONPATH=tests $(BIN)/python -m soak.crowd

## Tiers and bits on emulated x86-64 CPUs without AVX. Needs QEMU.
test-sse41: $(VENV)/.installed $(VENV)/.group-test
	for cpu in Nehalem Westmere; do \
	  qemu-x86_64 -cpu $$cpu $(BIN)/python -m pytest -p no:cacheprovider --combinations=pairs --tiers=sse41 tests/test_isa.py \
	    tests/test_bits.py --deselect=tests/test_isa.py::test_detection_agrees_with_the_operating_system || exit; \
	done

# Emulated threads see memory as those of the host do, and what is allocated or asked of the kernel depends on no CPU.
## The tests on emulated ARM CPUs. Installs a cross compiler and QEMU on Debian and Ubuntu.
test-aarch64:
	tools/aarch64/setup.sh
	tools/emulated/build.sh aarch64
	tools/check_headers.sh aarch64 aarch64-linux-gnu-g++
	PATH="$(CURDIR)/.aarch64/venv/bin:$$PATH" QEMU_CPU=max,pauth-impdef=on tools/test_cpp.sh aarch64 \
	  --exclude-regex 'allocation|real_time|threads'
	tools/aarch64/test.sh

## The tests on emulated 32-bit ARM CPUs, likewise; SHORT=1 is about bits, tiers and sizes.
test-armv7l:
	tools/armv7l/setup.sh
	tools/emulated/build.sh armv7l
	PATH="$(CURDIR)/.armv7l/venv/bin:$$PATH" QEMU_CPU=cortex-a15 tools/test_cpp.sh armv7l \
	  $(if $(SHORT),--exclude-regex 'allocation|bounds|real_time|threads')
	tools/armv7l/test.sh $(if $(SHORT),--short)

## Compile for macOS, musl and Windows, and run the C++ tests for Windows under Wine; SHORT=1 leaves out what repeats.
check-ports: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp .venv-wheels/.installed
	PATH="$(CURDIR)/$(BIN):$(CURDIR)/.venv-wheels/bin:$$PATH" tools/check_ports.sh $(if $(SHORT),--short)

## The C++ library installed, found by CMake and held against Python; SHORT=1 is two tiers of x86-64.
example-cpp: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/example_cpp.sh $(if $(SHORT),--short)

##@ For maintainers: speed

## Instructions a step against their budgets. Needs Valgrind, QEMU and a cross compiler.
count: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/count_instructions.py

## Write them to bench/instruction_budgets.json as the new budgets.
count-update: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/count_instructions.py --update

## Instructions a step on emulated ARM CPUs beside those of other libraries; ten minutes.
count-peers:
	tools/aarch64/setup.sh --peers
	tools/emulated/build.sh aarch64
	$(PYTHON) tools/aarch64/count_peers.py

## The inner loops for ARM by llvm-mca's models of cores; ARGS=--clang for Clang's code.
mca: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/aarch64/mca.py $(ARGS)

## Latency without Python.
bench-cpp: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/build_cpp.sh dev
	@for cell in lstm gru; do for dtype in float32 int8; do \
	  printf '%s, %s: ' $$cell $$dtype; \
	  build/dev/bench/fusedcell_latency --cell $$cell --dtype $$dtype || exit 1; \
	done; done

## The latency table beside PyTorch, ONNX Runtime, OpenVINO and ncnn, which it installs.
bench-peers: $(VENV)/.installed $(VENV)/.group-peers
	$(BIN)/fusedcell bench

## Latency beside RTNeural, which has no package: RTNEURAL=CHECKOUT XSIMD=CHECKOUT.
bench-rtneural: $(VENV)/.group-cpp
	@: $(if $(and $(RTNEURAL),$(XSIMD)),,$(error bench-rtneural needs RTNEURAL=CHECKOUT and XSIMD=CHECKOUT))
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/build_cpp.sh rtneural -DFUSEDCELL_RTNEURAL="$(abspath $(RTNEURAL))" \
	  -DFUSEDCELL_XSIMD="$(abspath $(XSIMD))"
	@build/rtneural/bench/fusedcell_against_rtneural

## Our own times over cells, sizes and dtypes; ARGS='-k "step and lstm"' chooses.
bench-suite: $(VENV)/.installed $(VENV)/.group-bench
	$(BIN)/python -m pytest bench --benchmark-columns=min,median,iqr,rounds --benchmark-sort=name $(ARGS)

##@ For maintainers: examples

## Run the examples and check what they say.
examples: $(VENV)/.installed $(VENV)/.examples
	$(BIN)/python examples/silero_vad.py
	$(BIN)/python examples/textgenrnn_text.py
	$(BIN)/python examples/predictive_maintenance/run.py --engines 60 --check
	$(BIN)/python examples/sentence_classifier/run.py --check
	$(BIN)/python examples/load_forecasting/run.py --check
	$(BIN)/python examples/seeing_inside/run.py --check
	$(BIN)/python examples/drift_watch/run.py --check
	$(BIN)/python examples/speech_live/run.py --seconds 6 --check
	$(BIN)/python examples/text_sampler/run.py --check
	$(BIN)/python examples/recurrent_policy/run.py --episodes 20 --check
	$(BIN)/python examples/spelling_to_phonemes/run.py --words 1200 --check

# Apart because ddddocr is 76 MB and Tesseract comes from the system's packages.
## Those that read text. Needs Tesseract and 76 MB of packages.
examples-ocr: $(VENV)/.installed $(VENV)/.examples-ocr
	$(BIN)/python examples/ddddocr_captcha.py
	$(BIN)/python examples/tesseract_line.py

# Resemblyzer's dependencies are for reading audio and finding speech, which the example does otherwise.
## Those of PyTorch models.
examples-torch: $(VENV)/.installed $(VENV)/.group-peers
	$(PIP) install --no-deps resemblyzer==0.1.4
	$(BIN)/python examples/speaker_embedding.py
	$(PIP) install tqdm
	$(BIN)/python examples/predictive_maintenance/fine_tune.py --check

## The one on a Dask cluster, undisturbed and with a worker killed.
examples-scoring: $(VENV)/.installed $(VENV)/.examples-scoring
	$(BIN)/python examples/score_sequences.py
	$(BIN)/python examples/score_sequences.py --kill

## A model on a small ARM device: code, memory and instructions, under QEMU.
edge: $(VENV)/.installed $(VENV)/.group-cpp
	tools/aarch64/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/edge.py

##@ For maintainers: pages and releases

## Write docs/compliance.md: which attributes of ONNX operators each runtime honours.
compliance: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	PYTHONPATH=tests $(BIN)/python tools/compliance.py

## Write docs/census.md: published models, which of them run whole, and how fast.
census: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers $(VENV)/.census
	$(BIN)/python bench/census.py

# On a machine that does nothing else.
## Measure single steps for docs/*.svg and for the tables of README.md and docs/performance.md.
STEPS = $(BIN)/fusedcell bench step --cells lstm,gru --sizes 32,64,128,256,512,1024
figures: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	mkdir -p build/figures
	$(STEPS) --json build/figures/float32.json --plot docs/faster.svg --plot-us docs/latency.svg
	$(STEPS) --dtype int8 --json build/figures/int8.json
	$(BIN)/python tools/figures.py build/figures/float32.json build/figures/int8.json

# Without containers.
## The sdist and manylinux wheels into dist, audited; NAMES="sdist cp311-x86_64" chooses.
wheels: .venv-wheels/.installed
	PATH="$(CURDIR)/.venv-wheels/bin:$$PATH" .venv-wheels/bin/python tools/wheels/build.py $(NAMES)
	$(MAKE) check-dist

## Hold the files in dist against what a release promises: sizes, contents, metadata, README.
check-dist: .venv-wheels/.installed
	.venv-wheels/bin/python tools/wheels/check.py

## Test each wheel in dist as installed; START=1 only starts it.
test-wheels: .venv-wheels/.installed
	.venv-wheels/bin/python tools/wheels/test.py $(if $(START),--start) $(if $(TORCH),--torch $(TORCH)) $(NAMES)

# The kernels of other architectures are compiled by check-ports and tested by test-aarch64.
## The sdist, and one wheel that only has to start.
check-wheels:
	$(MAKE) wheels NAMES='sdist cp311-x86_64'
	$(MAKE) test-wheels START=1 NAMES='cp311-x86_64'

# A release's workflow knows the address. Elsewhere a stand-in shows whether every link is absolute.
## All that a release needs short of uploading it; NAMES="sdist cp311-x86_64" chooses.
REPOSITORY_URL ?= https://example.org/fusedcell
release-check: $(VENV)/.installed $(VENV)/.group-peers .venv-wheels/.installed
	.venv-wheels/bin/python tools/wheels/check_texts.py
	REPOSITORY_URL=$(REPOSITORY_URL) $(MAKE) wheels
	$(MAKE) test-wheels START=1 TORCH=$(CURDIR)/$(BIN)/python

## Remove every build, environment and download.
clean:
	rm -rf build dist $(VENV) .venv-clang .venv-wheels .aarch64 .armv7l .wheels

$(VENV)/.created:
	$(PYTHON) -c 'import venv, ensurepip' || { echo 'Python lacks venv (on Debian: apt-get install python3-venv)'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'
	touch $@

# Clang is apart from the tools of lint, because its package brings a clang-format of its own.
.venv-clang/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-clang
	.venv-clang/bin/python -m pip --quiet --disable-pip-version-check install --upgrade 'pip>=25.1'
	.venv-clang/bin/python -m pip --quiet --disable-pip-version-check install --group clang
	.venv-clang/bin/python -c '' # at whose start the package makes the links that a wheel cannot have
	touch $@

.venv-wheels/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-wheels
	.venv-wheels/bin/python -m pip --quiet --disable-pip-version-check install --upgrade 'pip>=25.1'
	.venv-wheels/bin/python -m pip --quiet --disable-pip-version-check install --group wheels
	touch $@

$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	$(PIP) install .
	touch $@

$(VENV)/.group-%: $(VENV)/.created pyproject.toml
	$(PIP) install --group $*
	touch $@

# silero-vad itself would bring PyTorch, and pyrnnoise PyAV; the examples read the trained weights from their files.
$(VENV)/.examples: $(VENV)/.created examples/requirements.txt examples/requirements-drift.txt
	$(PIP) install -r examples/requirements.txt -r examples/requirements-drift.txt
	$(PIP) install --no-deps silero-vad==6.2.3 pyrnnoise==0.4.5
	touch $@

$(VENV)/.examples-scoring: $(VENV)/.created examples/requirements-scoring.txt
	$(PIP) install -r examples/requirements-scoring.txt
	touch $@

# What the packages themselves would bring is for training, and for reading sounds, images and text.
$(VENV)/.census: $(VENV)/.created bench/census-requirements.txt
	$(PIP) install -r bench/census-requirements.txt
	$(PIP) install --no-deps silero-vad==6.2.3 pyrnnoise==0.4.5 resemblyzer==0.1.4 ddddocr==1.6.1 textgenrnn==2.0.0 \
	  g2p-en==2.1.0 g2pM==0.1.2.5 nagisa==0.3.0 stable-baselines3==2.9.2 sb3-contrib==2.9.2
	touch $@

# ddddocr itself would bring OpenCV; the example reads the trained networks from its files.
$(VENV)/.examples-ocr: $(VENV)/.created examples/requirements-ocr.txt examples/requirements.txt
	$(PIP) install -r examples/requirements-ocr.txt
	$(PIP) install --no-deps ddddocr==1.6.1
	touch $@
