# Every step from an empty folder to the published tables; `make help` lists them.
# What is up to date is not made again: targets are real files, and build/stamps/wheels stands for Paddle's version.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Variables a user may set: `make help` explains them.
PRESET ?= small
CKPT ?=
DTYPE ?= float32
DEVICE ?= auto
IMPL ?= fused
IMAGE ?=
PROMPT ?=
ALLOW_URL ?=
FONT ?=
NEW_TOKENS ?= 32
TEMPERATURE ?=
TOP_P ?=
TOP_K ?=
REPETITION_PENALTY ?=
MIN_NEW_TOKENS ?=
SEED ?=
STOP ?=
SYSTEM ?=
ARMS ?=
ROUNDS ?=
BATCH ?=
CASES ?=
BUDGET ?=
BATCHES ?=
LENGTHS ?=
VERDICT ?=
BASE ?=
UPDATE ?=
HASHES ?=
CUDA_ARCHS ?=
OUT ?=
BUILD ?= build
PYTHON ?=
PADDLE_PYTHON ?= .venv/bin/python
TORCH_PYTHON ?= .venv/bin/python
override PROMPT := $(value PROMPT)
override IMAGE := $(value IMAGE)
override SYSTEM := $(value SYSTEM)
override STOP := $(value STOP)
SAMPLING := TEMPERATURE TOP_P TOP_K REPETITION_PENALTY MIN_NEW_TOKENS SEED
export PRESET CKPT PYTHON DEVICE PADDLE_PYTHON TORCH_PYTHON IMAGE PROMPT ALLOW_URL SYSTEM STOP CUDA_ARCHS $(SAMPLING)

comma := ,
empty :=
space := $(empty) $(empty)
PRESETS := $(sort $(basename $(notdir $(wildcard export/presets/*.json))))
one_of = $(if $(filter-out 1,$(words $($1)))$(filter-out $2,$($1)),$(error $1=$($1) is unknown, use one of: $2))
$(call one_of,PRESET,$(PRESETS))
$(call one_of,DTYPE,float32 float16 bfloat16)
$(call one_of,DEVICE,auto cpu gpu)
$(call one_of,IMPL,fused native stock)
ifeq ($(IMPL),stock)
$(if $(filter export export-vision export-language chat compare regress replay,$(MAKECMDGOALS)),\
  $(error IMPL=stock is for infer: export-stock makes its graphs))
endif
$(foreach name,CKPT OUT BUILD CASES BUDGET BATCHES LENGTHS VERDICT BASE PADDLE_PYTHON TORCH_PYTHON,$(if $(word 2,$($(name))),\
  $(error $(name)=$($(name)) holds a space, which make cannot handle: use another folder or a symbolic link)))

ifneq ($(filter replay,$(MAKECMDGOALS)),)
$(foreach name,CKPT CASES OUT,$(if $($(name)),,\
  $(error $(name)= is missing: replay needs CKPT= (checkpoint), CASES= (folder of case*.npz) and OUT= (folder))))
endif

ifneq ($(filter check,$(MAKECMDGOALS)),)
$(if $(CKPT),,$(error CKPT= is missing: give the folder of the downloaded checkpoint))
endif

ifneq ($(filter compare,$(MAKECMDGOALS)),)
$(if $(BASE),,$(error BASE= is missing: give the git reference to compare with, for example BASE=HEAD~1))
endif

GOALS := $(or $(MAKECMDGOALS),help)
OUT_GOALS := checkpoint convert export export-vision export-language export-stock infer baseline bench compare \
  regress reproduce history report replay
ifneq ($(OUT),)
ifneq ($(words $(filter $(OUT_GOALS),$(GOALS))),1)
$(error OUT= says where one target writes to: give exactly one of $(OUT_GOALS))
endif
endif
out_or = $(if $(and $(OUT),$(filter $1,$(GOALS))),$(OUT),$2)

# Where things are. A checkpoint of the user's is told from others of the same name by a hash of its path.
ifeq ($(CKPT),)
NAME := $(PRESET)
CHECKPOINT := $(call out_or,checkpoint,$(BUILD)/checkpoints/$(NAME))
CHECKPOINT_FILES := $(CHECKPOINT)/model.safetensors
else
NAME := $(notdir $(realpath $(CKPT)))-$(shell printf %s '$(realpath $(CKPT))' | sha256sum | cut -c 1-8)
CHECKPOINT := $(CKPT)
CHECKPOINT_FILES := $(wildcard $(foreach file,config.json qwen.tiktoken *.safetensors *.bin *.pdparams *.index.json,\
  $(CKPT)/$(file)))
ifneq ($(filter-out help doctor setup ops test lint clean history report check,$(GOALS)),)
ifeq ($(wildcard $(CKPT)/config.json),)
$(error CKPT=$(CKPT) has no config.json: give the folder of a Qwen-VL checkpoint)
endif
endif
endif
CONVERTED := $(call out_or,convert,$(BUILD)/converted/$(NAME))
EXPORTED_ROOT := $(BUILD)/exported/$(NAME)
EXPORTED := $(call out_or,export export-vision export-language,$(EXPORTED_ROOT)/$(IMPL)-$(DTYPE))
STOCK_EXPORTED := $(call out_or,export-stock,$(EXPORTED_ROOT)/stock-$(DTYPE))
RESULTS := $(call out_or,baseline bench compare regress reproduce history report,results)
STAMPS := $(BUILD)/stamps
# The environments: .venv is made unless both interpreters are given.
READY := .venv/.ready
ENVIRONMENT := $(if $(filter .venv/%,$(PADDLE_PYTHON) $(TORCH_PYTHON)),$(READY))
WHEELS := $(STAMPS)/wheels
ifneq ($(filter-out help doctor clean,$(GOALS)),)
$(foreach name,PADDLE_PYTHON TORCH_PYTHON,$(if $(filter .venv/%,$($(name))),,$(if $(shell command -v $($(name))),,\
  $(error $(name)=$($(name)) cannot be run: give an interpreter that has the packages))))
$(shell scripts/wheel_stamp.sh $(PADDLE_PYTHON) $(WHEELS))
ifneq ($(and $(ENVIRONMENT),$(shell scripts/setup.sh --check)),)
$(READY): FORCE
$(WHEELS): $(READY)
endif
endif

# auto is the GPU where there is one, Paddle's GPU wheel for it, and weights that its kernels take
HAS_GPU_WHEEL := $(findstring paddlepaddle-gpu,$(file <$(WHEELS)))
USED_DEVICE := $(if $(filter auto,$(DEVICE)),$(if $(and $(wildcard /dev/nvidia0),$(HAS_GPU_WHEEL),$(filter-out float32,\
  $(DTYPE))),gpu,cpu),$(DEVICE))
OPS_LIBRARY := $(BUILD)/ops/$(USED_DEVICE)/libqwen_vl_ops.so
STOCK := $(BUILD)/stock/$(DEVICE)
STOCK_PACKAGES := $(STOCK)/packages/VERSION
export QWEN_VL_OPS := $(abspath $(OPS_LIBRARY))
export QWEN_VL_STOCK := $(abspath $(STOCK)/packages)

# What the steps are made from
OPS_SOURCES := $(shell find ops/paddle ops/kernels -name '*.cc' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh') \
  ops/build.py ops/toolchain.py
STOCK_SOURCES := $(shell find ops/stock -name '*.cc' -o -name '*.h' -o -name '*.cu' -o -name '*.toml' -o -name '*.py') \
  ops/kernels/common/vector.cuh ops/paddle/checks.h ops/build.py ops/toolchain.py
SHARED_SOURCES := core/config.py core/files.py $(wildcard export/readers/*.py)
CONVERT_SOURCES := export/convert.py $(SHARED_SOURCES)
EXPORT_SOURCES := $(filter-out export/convert.py export/synthetic.py export/stock.py,$(wildcard export/*.py)) \
  $(SHARED_SOURCES) ops/weights.py ops/functional.py

.PHONY: help setup ops check checkpoint convert export export-vision export-language export-stock infer chat baseline bench \
  compare regress reproduce history report replay doctor test lint clean FORCE
FORCE:

help: ## list the targets and variables
	@echo "make TARGET [VARIABLE=value …]"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile; echo
	@echo "  PRESET=$(PRESET)  random checkpoint to make, one of: $(PRESETS)"
	@echo "  CKPT=          folder of a real Qwen-VL checkpoint, used instead of PRESET"
	@echo "  DTYPE=$(DTYPE)  float32, float16 or bfloat16 (the CPU computes in float32 only)"
	@echo "  DEVICE=$(DEVICE)    auto, cpu or gpu; gpu also installs Paddle's GPU wheel"
	@echo "  IMPL=$(IMPL)     fused (own operators) or native (Paddle's); for infer also stock (paddlenlp's own graph)"
	@echo "  IMAGE= PROMPT= NEW_TOKENS=$(NEW_TOKENS)   for infer; NEW_TOKENS for bench and chat as well"
	@echo "  TEMPERATURE= TOP_P= TOP_K= REPETITION_PENALTY= MIN_NEW_TOKENS= SEED= STOP=   for infer and chat"
	@echo "  SYSTEM=        text that a chat begins with"
	@echo "  FONT=          TrueType file for the labels of the boxes that infer draws"
	@echo "  ALLOW_URL=1    images may be https addresses, which are downloaded"
	@echo "  CUDA_ARCHS=    architectures of the GPU operators, for example \"80 90a\"; default: those of the cards here"
	@echo "  ARMS=          arms of bench, all of them by default"
	@echo "  ROUNDS= BATCH= rounds and batch of bench"
	@echo "  BATCHES= LENGTHS=   further cases of bench, for example BATCHES=2,4 LENGTHS=1,64 (a GPU has some by default)"
	@echo "  BUDGET=        seconds of rounds of bench, compare and regress; they end before when they know enough"
	@echo "  BASE=          git reference that compare measures HEAD against"
	@echo "  HASHES=1       check compares large files with their published hashes as well"
	@echo "  UPDATE=1       regress stores a new baseline"
	@echo "  VERDICT=       file that regress writes its verdict to (JSON)"
	@echo "  OUT=           where the target writes to ($(OUT_GOALS))"
	@echo "  BUILD=$(BUILD)    folder of everything that is built on the way"
	@echo "  PYTHON=        interpreter (3.11 or 3.12) that .venv is made with"
	@echo "  PADDLE_PYTHON= TORCH_PYTHON=   interpreters that have the packages already; both given: no .venv"

setup: $(ENVIRONMENT) $(WHEELS) ## make .venv from requirements.txt

$(READY):
	scripts/setup.sh

$(WHEELS): | $(ENVIRONMENT)
	@scripts/wheel_stamp.sh $(PADDLE_PYTHON) $@

ops: $(OPS_LIBRARY) $(STOCK_PACKAGES) ## build the operator library; install paddlenlp_ops and fused_ln
	@$(PADDLE_PYTHON) -m ops.stock.install $(STOCK)/packages

# What would be built here: newer than the library where that is something else, else as old (ops/wanted.py).
$(OPS_LIBRARY:%/libqwen_vl_ops.so=%/target.json): FORCE | $(WHEELS)
	+@$(PADDLE_PYTHON) -m ops.wanted library --device $(USED_DEVICE) --out $(@D)
$(STOCK)/target.json: FORCE | $(WHEELS)
	+@$(PADDLE_PYTHON) -m ops.wanted stock --device $(DEVICE) --out $(@D)

$(OPS_LIBRARY): $(OPS_SOURCES) $(WHEELS) $(OPS_LIBRARY:%/libqwen_vl_ops.so=%/target.json)
	$(PADDLE_PYTHON) -m ops.build --device $(USED_DEVICE) --out $(@D)
	@touch $@

$(STOCK_PACKAGES): $(STOCK_SOURCES) $(WHEELS) $(STOCK)/target.json
	$(PADDLE_PYTHON) -m ops.stock.build --device $(DEVICE) --out $(STOCK)
	@touch $@

check: | $(ENVIRONMENT) ## say whether the downloaded checkpoint CKPT is whole, what it needs, what to do next
	@$(PADDLE_PYTHON) -m export.check $(CKPT) --converted $(CONVERTED) --exported $(EXPORTED_ROOT) \
	  $(if $(filter file,$(origin DTYPE)),,--dtype $(DTYPE)) $(if $(HASHES),--hashes)

checkpoint: $(CHECKPOINT_FILES) ## make the random checkpoint of PRESET

ifeq ($(CKPT),)
$(CHECKPOINT_FILES): export/presets/$(PRESET).json export/synthetic.py | $(WHEELS)
	$(PADDLE_PYTHON) -m export.synthetic --preset $(PRESET) $(CHECKPOINT)
endif

convert: $(CONVERTED)/model_state.pdparams ## convert the checkpoint to Paddle's names and layout

$(CONVERTED)/model_state.pdparams: $(CHECKPOINT_FILES) $(CONVERT_SOURCES) | $(WHEELS)
	$(PADDLE_PYTHON) -m export.convert $(CHECKPOINT) $(CONVERTED)
	@touch $@

export: export-vision export-language ## export both graphs
export-vision: $(EXPORTED)/vision/manifest.json ## export the vision graph
export-language: $(EXPORTED)/language/manifest.json ## export the language graph

NEEDS_fused := $(OPS_LIBRARY) ops/library.py
NEEDS_native := ops/native.py

# $1 folder, $2 implementation, $3 graph
define export_rule
$1/$3/manifest.json: $(CONVERTED)/model_state.pdparams $(EXPORT_SOURCES) $(NEEDS_$2) $(WHEELS)
	$(PADDLE_PYTHON) -m export $3 $(CONVERTED) $1 --dtype $(DTYPE) --impl $2
	@touch $$@
endef
GRAPHS := vision language
$(foreach graph,$(GRAPHS),$(foreach impl,fused native,\
  $(eval $(call export_rule,$(EXPORTED_ROOT)/$(impl)-$(DTYPE),$(impl),$(graph)))))
ifneq ($(EXPORTED),$(EXPORTED_ROOT)/$(IMPL)-$(DTYPE))
$(foreach graph,$(GRAPHS),$(eval $(call export_rule,$(EXPORTED),$(IMPL),$(graph))))
endif

# paddlenlp's own language graph, and beside it the vision graph of Paddle's own layers
export-stock: $(STOCK_EXPORTED)/language/manifest.json $(STOCK_EXPORTED)/vision/manifest.json ## export the stock graphs

WITH_STOCK = PYTHONPATH=$(abspath $(STOCK)/packages)$${PYTHONPATH:+:$$PYTHONPATH}
$(STOCK_EXPORTED)/language/manifest.json: $(CONVERTED)/model_state.pdparams export/stock.py $(EXPORT_SOURCES) $(STOCK_PACKAGES)
	$(WITH_STOCK) $(PADDLE_PYTHON) -m export.stock $(CONVERTED) $(STOCK_EXPORTED) --dtype $(DTYPE)
	@touch $@
$(STOCK_EXPORTED)/vision/manifest.json: $(CONVERTED)/model_state.pdparams $(EXPORT_SOURCES) $(NEEDS_native) $(WHEELS)
	$(PADDLE_PYTHON) -m export vision $(CONVERTED) $(STOCK_EXPORTED) --dtype $(DTYPE) --impl native
	@touch $@

ASKED := --max-new-tokens $(NEW_TOKENS) $${IMAGE:+--image "$$IMAGE"} $${PROMPT:+--prompt "$$PROMPT"}
# Each variable of SAMPLING as the option of the same name.
SAMPLED = $(foreach name,$(SAMPLING),$(if $($(name)),\
  --$(subst _,-,$(shell printf %s $(name) | tr A-Z a-z)) "$$$(name)")) $${STOP:+--stop "$$STOP"}
ifeq ($(IMPL),stock)
ifneq ($(strip $(foreach name,$(SAMPLING) STOP,$($(name)))),)
$(error IMPL=stock takes the likeliest token: leave out $(SAMPLING) and STOP, or use IMPL=fused)
endif
$(if $(and $(OUT),$(filter infer,$(GOALS))),$(error IMPL=stock draws no boxes: leave out OUT=, or use IMPL=fused))
infer: | $(ENVIRONMENT)
	@$(PADDLE_PYTHON) -m infer.stock --check --device $(DEVICE)
	$(MAKE) export-stock
	$(WITH_STOCK) $(PADDLE_PYTHON) -m infer.stock --exported $(STOCK_EXPORTED) --device $(DEVICE) $(ASKED)
else
infer: export ## answer PROMPT about IMAGE (without both: the benchmark's)
	$(PADDLE_PYTHON) -m infer --exported $(EXPORTED) --device $(USED_DEVICE) $(ASKED) $(SAMPLED) \
	  --out $(call out_or,infer,$(BUILD)/answers) $(if $(FONT),--font $(FONT))
endif

# An answer of a chat has room for more than infer's default.
chat: export ## talk with the model on this terminal
	@$(PADDLE_PYTHON) -m infer.chat --exported $(EXPORTED) --device $(USED_DEVICE) $${SYSTEM:+--system "$$SYSTEM"} \
	  $(if $(filter-out file,$(origin NEW_TOKENS)),--max-new-tokens $(NEW_TOKENS)) $(SAMPLED)

ARM_NAMES := $(if $(ARMS),$(subst $(comma),$(space),$(ARMS)),paddle-native paddle-fused)
BENCH_IMPLS := $(foreach impl,native fused,$(if $(filter paddle-$(impl),$(ARM_NAMES)),$(impl)))
# an arm of the stock graphs runs on what export-stock made, and is skipped where there is nothing
BENCH_IMPLS_ALL := $(BENCH_IMPLS) $(if $(filter paddle-stock,$(ARM_NAMES)),stock)
BENCH_EXPORTS := $(foreach impl,$(BENCH_IMPLS),$(GRAPHS:%=$(EXPORTED_ROOT)/$(impl)-$(DTYPE)/%/manifest.json))
BENCH_OPTIONS := --checkpoint $(CHECKPOINT) --dtype $(DTYPE) --device $(USED_DEVICE) --new-tokens $(NEW_TOKENS) \
  $${IMAGE:+--image "$$IMAGE"} $${PROMPT:+--prompt "$$PROMPT"}
BUDGET_OPTION := $(if $(BUDGET),--budget $(BUDGET))

# The command as it was typed, a word a line, for the results: what a reader has to run for the same again.
TYPED := PRESET CKPT DTYPE DEVICE IMPL NEW_TOKENS ARMS ROUNDS BATCH BATCHES LENGTHS BUDGET BASE UPDATE IMAGE PROMPT
define NEWLINE


endef
typed = $(if $(and $($1),$(filter-out file default undefined,$(origin $1))),$(NEWLINE)$1=$($1))
bench compare regress reproduce: export QWEN_VL_MAKE = make$(NEWLINE)$@$(foreach name,$(TYPED),$(call typed,$(name)))

# A GPU run has further cases unless they are named; an arm that is slow does not make all of them.
CASE_OPTIONS := $(if $(BATCHES),--batches $(BATCHES)) $(if $(LENGTHS),--lengths $(LENGTHS))
ifeq ($(USED_DEVICE)$(BATCHES)$(LENGTHS),gpu)
CASE_OPTIONS := --batches 1,2,4,8,16 --lengths 1,16,64,128,256 --case-budget 15
endif

baseline: $(CHECKPOINT_FILES) | $(ENVIRONMENT) ## one pass of the PyTorch baseline: times and text
	$(PADDLE_PYTHON) -m bench baseline $(BENCH_OPTIONS)

bench: $(CHECKPOINT_FILES) $(BENCH_EXPORTS) | $(ENVIRONMENT) ## compare Paddle with PyTorch, write results/
	$(if $(filter stock,$(BENCH_IMPLS_ALL)),$(WITH_STOCK)) $(PADDLE_PYTHON) -m bench run $(BENCH_OPTIONS) --out $(RESULTS) \
	  --preset $(NAME) $(if $(ARMS),--arms $(ARMS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(BATCH),--batch $(BATCH)) \
	  $(BUDGET_OPTION) $(CASE_OPTIONS) \
	  $(foreach impl,$(BENCH_IMPLS_ALL),--exported-$(impl) $(EXPORTED_ROOT)/$(impl)-$(DTYPE))

compare: $(CHECKPOINT_FILES) | $(ENVIRONMENT) ## measure HEAD beside the version BASE on this machine
	$(PADDLE_PYTHON) -m bench compare $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME) --impl $(IMPL) \
	  --base $(BASE) --build $(BUILD) $(BUDGET_OPTION)

REGRESS_EXPORTS := $(GRAPHS:%=$(EXPORTED_ROOT)/$(IMPL)-$(DTYPE)/%/manifest.json)
regress: $(CHECKPOINT_FILES) $(REGRESS_EXPORTS) | $(ENVIRONMENT) ## compare with the stored baseline
	$(PADDLE_PYTHON) -m bench regress $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME) --impl $(IMPL) \
	  --exported-$(IMPL) $(EXPORTED_ROOT)/$(IMPL)-$(DTYPE) $(if $(UPDATE),--update) $(if $(VERDICT),--verdict $(VERDICT)) \
	  $(BUDGET_OPTION)

REPRODUCE_EXPORTS := $(GRAPHS:%=$(EXPORTED_ROOT)/fused-$(DTYPE)/%/manifest.json)

reproduce: $(CHECKPOINT_FILES) $(REPRODUCE_EXPORTS) | $(ENVIRONMENT) ## the published comparison beside this machine's
	$(PADDLE_PYTHON) -m bench reproduce $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME) \
	  --exported-fused $(EXPORTED_ROOT)/fused-$(DTYPE)

history: | $(ENVIRONMENT) ## timeline of all runs with its change points
	$(PADDLE_PYTHON) -m bench history $(RESULTS)

report: | $(ENVIRONMENT) ## tables, plots, HTML page and README's figures from the stored rows
	$(PADDLE_PYTHON) -m bench report $(RESULTS)

replay: export ## run the reference CASES of CKPT through the graphs, write arrays to OUT
	$(PADDLE_PYTHON) -m infer.replay --exported $(EXPORTED) --cases $(CASES) --out $(OUT) --device $(USED_DEVICE)

doctor: ## say what this machine has and what will work
	@python=$$(command -v $(PADDLE_PYTHON) python3 | head -n 1) || true; \
	[[ -n $$python ]] || { echo "error: no Python at all: apt install python3 python3-venv" >&2; exit 1; }; \
	exec "$$python" -m scripts.doctor

test: $(OPS_LIBRARY) $(STOCK_PACKAGES) | $(ENVIRONMENT) ## run the tests
	$(PADDLE_PYTHON) -m pytest -q -n 2 --dist loadfile tests

lint: | $(ENVIRONMENT) ## check the style of the Python files
	$(PADDLE_PYTHON) -m ruff check .

clean: ## remove what was built (.venv and results stay)
	rm -rf $(BUILD) .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
