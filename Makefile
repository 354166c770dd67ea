# Every step from an empty folder to the published tables; `make help` lists them.
# Targets are files. What a file is made from is compared by content, see "Stamps" below; what the values of variables
# mean is decided in scripts/variables.py.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
unexport PYTHONSAFEPATH PYTHONOPTIMIZE

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
VARIABLES := PRESET CKPT DTYPE DEVICE IMPL IMAGE PROMPT ALLOW_URL FONT NEW_TOKENS TEMPERATURE TOP_P TOP_K \
  REPETITION_PENALTY MIN_NEW_TOKENS SEED STOP SYSTEM ARMS ROUNDS BATCH CASES BUDGET BATCHES LENGTHS VERDICT BASE \
  UPDATE HASHES CUDA_ARCHS OUT BUILD PYTHON PADDLE_PYTHON TORCH_PYTHON

# Values are texts: make expands nothing in them, and commands get them through the environment, where no shell reads
# them.
INHERITED := $(if $(filter environment,$(origin QWEN_VL_INHERITED)),$(QWEN_VL_INHERITED),\
  $(foreach name,$(VARIABLES),$(if $(filter environment,$(origin $(name))),$(name))))
TYPED := $(foreach name,$(filter-out PYTHON PADDLE_PYTHON TORCH_PYTHON BUILD OUT,$(VARIABLES)),\
  $(if $(filter-out file default,$(firstword $(origin $(name)))),$(name)))
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name))))
export $(VARIABLES)
export QWEN_VL_INHERITED := $(INHERITED)
# $(call given,NAME,option): --option=value if the variable has one
given = $(if $($1),--$2="$$$1")

# Here already, since make leaves line breaks out of what $(shell) is given.
define NEWLINE


endef
$(foreach name,$(filter-out PROMPT SYSTEM STOP,$(VARIABLES)),$(if $(findstring $(NEWLINE),$($(name))),\
  $(error $(name)= holds a line break$(if $(filter $(name),$(INHERITED)), (from the environment)): leave it out)))

# Whether the values can be used, before anything runs: "ok NAME", NAME for what is built from CKPT, or "error: …".
GOALS := $(or $(MAKECMDGOALS),help)
quoted = '$(subst ','\'',$1)'
ANY_PYTHON := $(shell command -v $(call quoted,$(PADDLE_PYTHON)) python3 | head -n 1)
CHECKED := $(if $(ANY_PYTHON),$(shell $(call quoted,$(ANY_PYTHON)) -X utf8 scripts/variables.py \
  --inherited $(INHERITED) --goals $(foreach goal,$(GOALS),$(call quoted,$(goal))) \
  --values $(foreach name,$(filter-out PROMPT SYSTEM,$(VARIABLES)),$(call quoted,$(name)=$($(name))))))
ifneq ($(firstword $(CHECKED)),ok)
ifneq ($(CHECKED)$(filter-out help,$(GOALS)),)
$(error $(or $(wordlist 2,999,$(CHECKED)),no Python 3.8 or newer at all: apt install python3 python3-venv))
endif
endif

# Where things are. A checkpoint of the user's is told from others of the same name by a hash of its path.
out_or = $(if $(and $(OUT),$(filter $1,$(GOALS))),$(OUT),$2)
ifeq ($(CKPT),)
NAME := $(PRESET)
CHECKPOINT := $(call out_or,checkpoint,$(BUILD)/checkpoints/$(NAME))
CHECKPOINT_MADE := $(CHECKPOINT)/model.safetensors
else
NAME := $(word 2,$(CHECKED))
CHECKPOINT := "$$CKPT"
CHECKPOINT_MADE :=
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
HAS_PYTHON := $(if $(filter-out help clean,$(GOALS)),$(shell command -v $(PADDLE_PYTHON)))
HAS_GPU_WHEEL := $(if $(HAS_PYTHON),$(findstring paddlepaddle-gpu,$(shell $(PADDLE_PYTHON) scripts/wheels.py)))
ifneq ($(filter-out help doctor clean,$(GOALS)),)
ifneq ($(and $(ENVIRONMENT),$(shell DEVICE=$(DEVICE) PYTHON=$(call quoted,$(PYTHON)) scripts/setup.sh --check)),)
$(READY): FORCE
endif
endif

# auto is the GPU where there is one, Paddle's GPU wheel for it, and weights that its kernels take
USED_DEVICE := $(if $(filter auto,$(DEVICE)),$(if $(and $(wildcard /dev/nvidia0),$(HAS_GPU_WHEEL),$(filter-out float32,\
  $(DTYPE))),gpu,cpu),$(DEVICE))
absolute = $(if $(filter /%,$1),$1,$(CURDIR)/$1)
OPS_LIBRARY := $(BUILD)/ops/$(USED_DEVICE)/libqwen_vl_ops.so
STOCK := $(BUILD)/stock/$(DEVICE)
STOCK_PACKAGES := $(STOCK)/packages/VERSION
export QWEN_VL_OPS := $(call absolute,$(OPS_LIBRARY))
export QWEN_VL_STOCK := $(call absolute,$(STOCK)/packages)

# What the steps are made from
OPS_SOURCES := ops/paddle ops/kernels ops/formats $(addprefix ops/,build.py compiler.py target.py toolchain.py)
STOCK_SOURCES := ops/stock ops/kernels/common/vector.cuh ops/paddle/checks.h \
  $(addprefix ops/,build.py compiler.py target.py toolchain.py)
SHARED_SOURCES := core/config.py core/files.py export/readers $(wildcard ops/formats/*.py ops/formats/*/__init__.py)
CONVERT_SOURCES := $(addprefix export/,convert.py checkpoint.py names.py stored.py pdparams_writer.py) $(SHARED_SOURCES)
EXPORT_SOURCES := $(filter-out export/convert.py export/synthetic.py export/stock.py,$(wildcard export/*.py)) \
  $(SHARED_SOURCES) $(addprefix ops/,weights.py functional.py framework/operators.py framework/programs.py)

# Stamps: what a target is made from is compared by content, since the time of a file says nothing after cp -p, tar or
# mv, or where a clock was wrong. $(call made_from,TARGET,FILES[,settings]) makes TARGET depend on its stamp, a list of
# the hashes of FILES (of all files in a folder). scripts/stamp.py looks at it in every run (+: also with -n and -q)
# and makes it newer than TARGET if TARGET was not made from what it lists. MADE, at a recipe's end, says that it is now.
STAMP := $(if $(HAS_PYTHON),+)@$(PADDLE_PYTHON) -m scripts.stamp
MADE = @touch -r $< $@
stamp_of = $(STAMPS)/of/$(patsubst /%,%,$(subst ..,up,$1))
define made_from
$1: $(call stamp_of,$1)
$(call stamp_of,$1): FORCE | $(filter $(BUILD)/%,$2) $(ENVIRONMENT)
	$(STAMP) --of $1 $(foreach setting,$3,--setting $(setting)) $$@ $2
endef

.PHONY: help setup ops check checkpoint convert export export-vision export-language export-stock infer chat baseline \
  bench compare regress reproduce history report replay doctor test lint clean FORCE
FORCE:

PRESETS := $(sort $(basename $(notdir $(wildcard export/presets/*.json))))
# A reader of the help that leaves (make help | head) or a closed output is no error.
help: .SHELLFLAGS := -c 'trap "" PIPE; eval "$$0" 2> /dev/null || :'
help: ## list the targets and variables
	@echo "make TARGET [VARIABLE=value …]"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile; echo
	@echo "  PRESET=$$PRESET  random checkpoint to make, one of: $(PRESETS)"
	@echo "  CKPT=          folder of a real Qwen-VL checkpoint, used instead of PRESET"
	@echo "  DTYPE=$$DTYPE  float32, float16 or bfloat16 (the CPU computes in float32 only)"
	@echo "  DEVICE=$$DEVICE    auto, cpu or gpu; gpu also installs Paddle's GPU wheel"
	@echo "  IMPL=$$IMPL     fused (own operators) or native (Paddle's); for infer also stock (paddlenlp's own graph)"
	@echo "  IMAGE= PROMPT= NEW_TOKENS=$$NEW_TOKENS   for infer; NEW_TOKENS for bench and chat as well"
	@echo "  TEMPERATURE= TOP_P= TOP_K= REPETITION_PENALTY= MIN_NEW_TOKENS= SEED= STOP=   for infer and chat"
	@echo "  SYSTEM=        text that a chat begins with"
	@echo "  FONT=          TrueType file for the labels of the boxes that infer draws"
	@echo "  ALLOW_URL=1    images may be https addresses, which are downloaded"
	@echo "  CUDA_ARCHS=    architectures of the GPU operators, for example \"80 90a\"; default: those of the cards here"
	@echo "  ARMS=          arms of bench, by default those that this device has, paddle-stock aside"
	@echo "  ROUNDS= BATCH= rounds and batch of bench"
	@echo "  BATCHES= LENGTHS=   further cases of bench, for example BATCHES=2,4 LENGTHS=1,64 (a GPU has some by default)"
	@echo "  BUDGET=        seconds of rounds of bench, compare and regress; they end before when they know enough"
	@echo "  BASE=          git reference that compare measures HEAD against"
	@echo "  HASHES=1       check compares large files with their published hashes as well"
	@echo "  UPDATE=1       regress stores a new baseline"
	@echo "  CASES=         folder of the reference cases that replay runs"
	@echo "  VERDICT=       file that regress writes its verdict to (JSON)"
	@echo "  OUT=           where the target writes to, if it is one that writes (export, bench, infer, …)"
	@echo "  BUILD=$$BUILD    folder of everything that is built on the way"
	@echo "  PYTHON=        interpreter (3.11 or 3.12) that .venv is made with"
	@echo "  PADDLE_PYTHON= TORCH_PYTHON=   interpreters that have the packages already; both given: no .venv"

setup: $(ENVIRONMENT) $(WHEELS) ## make .venv from requirements.txt

$(READY):
	scripts/setup.sh

$(WHEELS): FORCE | $(ENVIRONMENT)
	$(STAMP) --wheels $@

ops: $(OPS_LIBRARY) $(STOCK_PACKAGES) ## build the operator library; install paddlenlp_ops and fused_ln
	@$(PADDLE_PYTHON) -m ops.stock.install $(STOCK)/packages

# What is there if it serves, else what would be built here and now (ops/wanted.py)
OPS_TARGET := $(OPS_LIBRARY:%/libqwen_vl_ops.so=%/target.json)
STOCK_TARGET := $(STOCK)/target.json
$(OPS_TARGET): FORCE | $(WHEELS)
	+@$(PADDLE_PYTHON) -m ops.wanted library --device $(USED_DEVICE) --out $(@D)
$(STOCK_TARGET): FORCE | $(WHEELS)
	+@$(PADDLE_PYTHON) -m ops.wanted stock --device $(DEVICE) --out $(@D)

$(eval $(call made_from,$(OPS_LIBRARY),$(OPS_SOURCES) $(WHEELS) $(OPS_TARGET)))
$(OPS_LIBRARY):
	$(PADDLE_PYTHON) -m ops.build --device $(USED_DEVICE) --out $(@D)
	$(MADE)

$(eval $(call made_from,$(STOCK_PACKAGES),$(STOCK_SOURCES) $(WHEELS) $(STOCK_TARGET)))
$(STOCK_PACKAGES):
	$(PADDLE_PYTHON) -m ops.stock.build --device $(DEVICE) --out $(STOCK)
	$(MADE)

check: | $(ENVIRONMENT) ## say whether the downloaded checkpoint CKPT is whole, what it needs, what to do next
	@$(PADDLE_PYTHON) -m export.check $(CHECKPOINT) --converted $(CONVERTED) --exported $(EXPORTED_ROOT) \
	  $(if $(filter DTYPE,$(TYPED)),--dtype $(DTYPE)) $(if $(HASHES),--hashes)

checkpoint: $(CHECKPOINT_MADE) ## make the random checkpoint of PRESET

ifeq ($(CKPT),)
$(eval $(call made_from,$(CHECKPOINT_MADE),export/presets/$(PRESET).json export/synthetic.py))
$(CHECKPOINT_MADE):
	$(PADDLE_PYTHON) -m export.synthetic --preset $(PRESET) $(CHECKPOINT)
	$(MADE)
endif

# Every file of the checkpoint, by content
CHECKPOINT_STAMP := $(STAMPS)/checkpoints/$(NAME)
$(CHECKPOINT_STAMP): FORCE | $(CHECKPOINT_MADE) $(ENVIRONMENT)
	$(STAMP) --checkpoint $(CHECKPOINT) $@ $(if $(CHECKPOINT_MADE),$(call stamp_of,$(CHECKPOINT_MADE)))

convert: $(CONVERTED)/model_state.pdparams ## convert the checkpoint to Paddle's names and layout

$(eval $(call made_from,$(CONVERTED)/model_state.pdparams,$(CHECKPOINT_STAMP) $(CONVERT_SOURCES)))
$(CONVERTED)/model_state.pdparams:
	$(PADDLE_PYTHON) -m export.convert $(CHECKPOINT) $(CONVERTED)
	$(MADE)

export: export-vision export-language ## export both graphs
export-vision: $(EXPORTED)/vision/manifest.json ## export the vision graph
export-language: $(EXPORTED)/language/manifest.json ## export the language graph

CONVERTED_STAMP := $(call stamp_of,$(CONVERTED)/model_state.pdparams)
FILES_fused := $(OPS_SOURCES) ops/library.py
FILES_native := ops/native.py
BUILT_fused := $(OPS_LIBRARY)

# $1 folder, $2 implementation, $3 graph
define export_rule
$(call made_from,$1/$3/manifest.json,$(CONVERTED_STAMP) $(EXPORT_SOURCES) $(FILES_$2) $(WHEELS),$(DTYPE) $2)
$1/$3/manifest.json: | $(CONVERTED)/model_state.pdparams $(BUILT_$2)
	$(PADDLE_PYTHON) -m export $3 $(CONVERTED) $1 --dtype $(DTYPE) --impl $2
	$$(MADE)
endef
GRAPHS := vision language
$(foreach graph,$(GRAPHS),$(foreach impl,fused native,\
  $(eval $(call export_rule,$(EXPORTED_ROOT)/$(impl)-$(DTYPE),$(impl),$(graph)))))
ifneq ($(EXPORTED),$(EXPORTED_ROOT)/$(IMPL)-$(DTYPE))
$(foreach graph,$(GRAPHS),$(eval $(call export_rule,$(EXPORTED),$(IMPL),$(graph))))
endif

# paddlenlp's own language graph, and beside it the vision graph of Paddle's own layers
export-stock: $(STOCK_EXPORTED)/language/manifest.json $(STOCK_EXPORTED)/vision/manifest.json ## export the stock graphs

WITH_STOCK = PYTHONPATH="$(QWEN_VL_STOCK)$${PYTHONPATH:+:$$PYTHONPATH}"
$(eval $(call made_from,$(STOCK_EXPORTED)/language/manifest.json,\
  $(CONVERTED_STAMP) export/stock.py $(EXPORT_SOURCES) $(STOCK_PACKAGES) $(WHEELS),$(DTYPE)))
$(STOCK_EXPORTED)/language/manifest.json: | $(CONVERTED)/model_state.pdparams
	$(WITH_STOCK) $(PADDLE_PYTHON) -m export.stock $(CONVERTED) $(STOCK_EXPORTED) --dtype $(DTYPE)
	$(MADE)
$(eval $(call export_rule,$(STOCK_EXPORTED),native,vision))

ASKED := $(call given,NEW_TOKENS,max-new-tokens) $(call given,IMAGE,image) $(call given,PROMPT,prompt)
SAMPLED := $(call given,TEMPERATURE,temperature) $(call given,TOP_P,top-p) $(call given,TOP_K,top-k) \
  $(call given,REPETITION_PENALTY,repetition-penalty) $(call given,MIN_NEW_TOKENS,min-new-tokens) \
  $(call given,SEED,seed) $(call given,STOP,stop)
ifeq ($(IMPL),stock)
infer: | $(ENVIRONMENT)
	@$(PADDLE_PYTHON) -m infer.stock --check --device $(DEVICE)
	$(MAKE) export-stock
	$(WITH_STOCK) $(PADDLE_PYTHON) -m infer.stock --exported $(STOCK_EXPORTED) --device $(DEVICE) $(ASKED)
else
infer: export ## answer PROMPT about IMAGE (without both: the benchmark's)
	$(PADDLE_PYTHON) -m infer --exported $(EXPORTED) --device $(USED_DEVICE) $(ASKED) $(SAMPLED) \
	  --out $(call out_or,infer,$(BUILD)/answers) $(call given,FONT,font)
endif

# An answer of a chat has room for more than infer's default.
chat: export ## talk with the model on this terminal
	@$(PADDLE_PYTHON) -m infer.chat --exported $(EXPORTED) --device $(USED_DEVICE) $(call given,SYSTEM,system) \
	  $(if $(filter NEW_TOKENS,$(TYPED)),$(call given,NEW_TOKENS,max-new-tokens)) $(SAMPLED)

comma := ,
empty :=
space := $(empty) $(empty)
ARM_NAMES := $(if $(ARMS),$(subst $(comma),$(space),$(ARMS)),paddle-native paddle-fused)
BENCH_IMPLS := $(foreach impl,native fused,$(if $(filter paddle-$(impl),$(ARM_NAMES)),$(impl)))
# an arm of the stock graphs runs on what export-stock made, and is skipped where there is nothing
BENCH_IMPLS_ALL := $(BENCH_IMPLS) $(if $(filter paddle-stock,$(ARM_NAMES)),stock)
BENCH_EXPORTS := $(foreach impl,$(BENCH_IMPLS),$(GRAPHS:%=$(EXPORTED_ROOT)/$(impl)-$(DTYPE)/%/manifest.json))
BENCH_OPTIONS := --checkpoint $(CHECKPOINT) --dtype $(DTYPE) --device $(USED_DEVICE) \
  $(call given,NEW_TOKENS,new-tokens) $(call given,IMAGE,image) $(call given,PROMPT,prompt)

# The goal and the variables that were typed, for the results: what a reader has to give for the same again.
bench compare regress reproduce: export QWEN_VL_MAKE = $@ $(filter $(TYPED),PRESET CKPT DTYPE DEVICE IMPL NEW_TOKENS \
  ARMS ROUNDS BATCH BATCHES LENGTHS BUDGET BASE UPDATE IMAGE PROMPT)

# A GPU run has further cases unless they are named; an arm that is slow does not make all of them.
CASE_OPTIONS := $(call given,BATCHES,batches) $(call given,LENGTHS,lengths)
ifeq ($(USED_DEVICE)$(BATCHES)$(LENGTHS),gpu)
CASE_OPTIONS := --batches 1,2,4,8,16 --lengths 1,16,64,128,256 --case-budget 15
endif

baseline: $(CHECKPOINT_MADE) | $(ENVIRONMENT) ## one pass of the PyTorch baseline: times and text
	$(PADDLE_PYTHON) -m bench baseline $(BENCH_OPTIONS)

bench: $(CHECKPOINT_MADE) $(BENCH_EXPORTS) | $(ENVIRONMENT) ## compare Paddle with PyTorch, write results/
	$(if $(filter stock,$(BENCH_IMPLS_ALL)),$(WITH_STOCK)) $(PADDLE_PYTHON) -m bench run $(BENCH_OPTIONS) \
	  --out $(RESULTS) --preset $(NAME) $(call given,ARMS,arms) $(call given,ROUNDS,rounds) $(call given,BATCH,batch) \
	  $(call given,BUDGET,budget) $(CASE_OPTIONS) \
	  $(foreach impl,$(BENCH_IMPLS_ALL),--exported-$(impl) $(EXPORTED_ROOT)/$(impl)-$(DTYPE))

compare: $(CHECKPOINT_MADE) | $(ENVIRONMENT) ## measure HEAD beside the version BASE on this machine
	$(PADDLE_PYTHON) -m bench compare $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME) --impl $(IMPL) \
	  $(call given,BASE,base) --build $(BUILD) $(call given,BUDGET,budget)

REGRESS_EXPORTS := $(GRAPHS:%=$(EXPORTED_ROOT)/$(IMPL)-$(DTYPE)/%/manifest.json)
regress: $(CHECKPOINT_MADE) $(REGRESS_EXPORTS) | $(ENVIRONMENT) ## compare with the stored baseline
	$(PADDLE_PYTHON) -m bench regress $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME) --impl $(IMPL) \
	  --exported-$(IMPL) $(EXPORTED_ROOT)/$(IMPL)-$(DTYPE) $(if $(UPDATE),--update) $(call given,VERDICT,verdict) \
	  $(call given,BUDGET,budget)

REPRODUCE_EXPORTS := $(GRAPHS:%=$(EXPORTED_ROOT)/fused-$(DTYPE)/%/manifest.json)

reproduce: $(CHECKPOINT_MADE) $(REPRODUCE_EXPORTS) | $(ENVIRONMENT) ## the published comparison beside this machine's
	$(PADDLE_PYTHON) -m bench reproduce $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME) \
	  --exported-fused $(EXPORTED_ROOT)/fused-$(DTYPE)

history: | $(ENVIRONMENT) ## timeline of all runs with its change points
	$(PADDLE_PYTHON) -m bench history $(RESULTS)

report: | $(ENVIRONMENT) ## tables, plots, HTML page and README's figures from the stored rows
	$(PADDLE_PYTHON) -m bench report $(RESULTS)

replay: export ## run the reference CASES of CKPT through the graphs, write arrays to OUT
	$(PADDLE_PYTHON) -m infer.replay --exported $(EXPORTED) $(call given,CASES,cases) --out $(OUT) --device $(USED_DEVICE)

doctor: ## say what this machine has and what will work
	@[[ -n "$(ANY_PYTHON)" ]] || { echo "error: no Python at all: apt install python3 python3-venv" >&2; exit 1; }; \
	exec "$(ANY_PYTHON)" -m scripts.doctor

# Tests run makes of their own, which must not see these values.
test: $(OPS_LIBRARY) $(STOCK_PACKAGES) | $(ENVIRONMENT) ## run the tests
	unset $(filter-out %PYTHON CUDA_ARCHS,$(VARIABLES)) QWEN_VL_INHERITED; \
	$(PADDLE_PYTHON) -m pytest -q -n 2 --dist loadfile tests

lint: | $(ENVIRONMENT) ## check the style of the Python files
	$(PADDLE_PYTHON) -m ruff check .

clean: ## remove what was built (.venv and results stay)
	rm -rf $(addprefix $(BUILD)/,answers checkpoints converted exported ops stamps stock versions) \
	  .pytest_cache .ruff_cache .hypothesis
	if [[ -d $(BUILD) ]]; then rmdir --ignore-fail-on-non-empty $(BUILD); fi
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
