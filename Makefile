# Every step from an empty folder to the published tables; `make help` lists them.
# In this order: variables, what is decided from them, places, environment, operators, checkpoint, graphs, answers,
# benchmark, the repository itself. Targets are files. Why each thing is as it is: docs/development.md, "How the
# Makefile decides".

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup ops check checkpoint convert quantize export export-vision export-language export-stock infer chat \
  baseline bench sweep compare regress reproduce history report replay doctor test lint clean FORCE stock-machine \
  other-paddle
FORCE:
unexport PYTHONSAFEPATH PYTHONOPTIMIZE

# Variables that a user may set; the others are empty. `make help` explains them.
PRESET ?= small
DTYPE ?= float32
DEVICE ?= auto
IMPL ?= fused
NEW_TOKENS ?= 32
BUILD ?= build
PADDLE_PYTHON ?= .venv/bin/python
TORCH_PYTHON ?= .venv/bin/python
VARIABLES := PRESET CKPT DTYPE DEVICE IMPL WEIGHTS IMAGE PROMPT ALLOW_URL FONT NEW_TOKENS TEMPERATURE TOP_P TOP_K \
  REPETITION_PENALTY MIN_NEW_TOKENS SEED STOP SYSTEM ARMS LAUNCHES ROUNDS BATCH CASES BUDGET BATCHES LENGTHS VERDICT \
  BASE UPDATE ACCEPT HASHES TESTS CUDA_ARCHS OUT BUILD PYTHON PADDLE PADDLE_PYTHON TORCH_PYTHON PADDLE_OTHER_PYTHON

# Where each came from: typed after make, or inherited from the environment. Names alone.
from = $(foreach name,$1,$(if $(filter $2,$(firstword $(origin $(name)))),$(name)))
TYPED := $(call from,$(.VARIABLES),command)
INHERITED := $(call from,$(VARIABLES),environment)
GIVEN := $(filter-out PYTHON PADDLE PADDLE_PYTHON TORCH_PYTHON BUILD OUT,$(filter $(VARIABLES),$(TYPED)) $(INHERITED))

# Values are texts, in which make expands nothing. Commands get them through the environment ("$$CKPT"), where no shell
# reads them.
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name))))
export $(VARIABLES)
export QWEN_VL_INHERITED := $(INHERITED)
export QWEN_VL_VARIABLES := $(VARIABLES)
# $(call given,NAME,option): --option="$$NAME" if the variable has a value
given = $(if $($1),--$2="$$$1")

# Decisions: "error: …" in one line if the values cannot be used, else the words that scripts/variables.py describes.
define newline


endef
quoted = '$(subst $(newline),\n,$(subst ','\'',$(subst \,\\,$1)))'
GOALS := $(or $(MAKECMDGOALS),help)
ANY_PYTHON := $(shell command -v $(call quoted,$(PADDLE_PYTHON)) python3 | head -n 1)
DECIDED := $(if $(ANY_PYTHON),$(shell $(call quoted,$(ANY_PYTHON)) -X utf8 scripts/variables.py \
  --goals $(foreach goal,$(GOALS),$(call quoted,$(goal))) \
  --typed $(if $(filter 0,$(MAKELEVEL)),$(foreach name,$(TYPED),$(call quoted,$(name)))) --inherited $(INHERITED) \
  --values $(foreach name,$(filter-out PROMPT SYSTEM,$(VARIABLES)),$(call quoted,$(name)=$($(name))))))
ifneq ($(firstword $(DECIDED)),ok)
ifneq ($(DECIDED)$(filter-out help,$(GOALS)),)
$(error $(or $(wordlist 2,999,$(DECIDED)),no Python 3.8 or newer at all: apt install python3 python3-venv))
endif
endif
NAME := $(word 2,$(DECIDED))
USED_DEVICE := $(word 3,$(DECIDED))
PACKAGES := $(filter python,$(word 4,$(DECIDED)))
STALE := $(filter stale,$(word 5,$(DECIDED)))
comma := ,
ARM_GRAPHS := $(subst $(comma), ,$(word 6,$(DECIDED)))

# Places. OUT, where it is given, is that of the goal.
out_or = $(if $(and $(OUT),$(filter $1,$(GOALS))),$(OUT),$2)
CHECKPOINT := $(if $(CKPT),"$$CKPT",$(call out_or,checkpoint,$(BUILD)/checkpoints/$(NAME)))
CHECKPOINT_MADE := $(if $(CKPT),,$(CHECKPOINT)/model.safetensors)
CONVERTED := $(call out_or,convert,$(BUILD)/converted/$(NAME))
EXPORTED_ROOT := $(BUILD)/exported/$(NAME)
EXPORTED_fused := $(EXPORTED_ROOT)/fused-$(DTYPE)
EXPORTED_native := $(EXPORTED_ROOT)/native-$(DTYPE)
EXPORTED_stock := $(call out_or,export-stock,$(EXPORTED_ROOT)/stock-$(DTYPE))
EXPORTED_other := $(BUILD)/other/exported/$(NAME)/fused-$(DTYPE)
EXPORTED_$(IMPL) := $(call out_or,export export-vision export-language,$(EXPORTED_$(IMPL)))
RESULTS := $(call out_or,baseline bench sweep compare regress reproduce history report,results)
STAMPS := $(BUILD)/stamps
OPS_LIBRARY := $(BUILD)/ops/$(USED_DEVICE)/libqwen_vl_ops.so
STOCK := $(BUILD)/stock/$(DEVICE)
STOCK_PACKAGES := $(STOCK)/packages/VERSION
absolute = $(if $(filter /%,$1),$1,$(CURDIR)/$1)
export QWEN_VL_OPS := $(call absolute,$(OPS_LIBRARY))
export QWEN_VL_STOCK := $(call absolute,$(STOCK)/packages)

# Stamps: what a target is made from is compared by content, since the time of a file says nothing after cp -p, tar or
# mv, or where a clock was wrong. $(call made_from,TARGET,FILES[,settings]) makes TARGET depend on its stamp, a list of
# the hashes of FILES (of all files in a folder). scripts/stamp.py looks at it in every run and makes it newer than
# TARGET if TARGET was not made from what it lists. MADE, at a recipe's end, says that it is now.
# +: also with -n and -q, once there is the interpreter
ALWAYS := $(if $(STALE),,$(if $(PACKAGES),+))@$(PADDLE_PYTHON)
STAMP := $(ALWAYS) -m scripts.stamp
MADE = @touch -r $< $@
stamp_of = $(STAMPS)/of/$(patsubst /%,%,$(subst ..,up,$1))
define stamp_rule
$1: $(call stamp_of,$1)
$(call stamp_of,$1): FORCE | $(filter $(BUILD)/%,$2) $(ENVIRONMENT)
	$(STAMP) --of $1 $(foreach setting,$3,--setting $(setting)) $$@ $2
endef
made_from = $(eval $(call stamp_rule,$1,$2,$3))

FORMATS := $(patsubst ops/formats/%/format.h,%,$(wildcard ops/formats/*/format.h))
define HELP
  PRESET=$(PRESET)  random checkpoint to make, one of: $(sort $(basename $(notdir $(wildcard export/presets/*.json))))
  CKPT=          folder of a real Qwen-VL checkpoint, used instead of PRESET
  DTYPE=$(DTYPE)  float32, float16 or bfloat16 (the CPU computes in float32 only)
  DEVICE=$(DEVICE)    auto, cpu or gpu; gpu also installs Paddle's GPU wheel
  IMPL=$(IMPL)     fused (own operators) or native (Paddle's); for infer also stock (paddlenlp's own graph)
  WEIGHTS=auto   what infer, chat and replay keep the language model's matrices in: auto (loses nothing), one of
                 $(FORMATS), or decoder's+head's; bench and sweep
                 add an arm that rounds to it, compare and regress measure that arm, quantize writes it
  IMAGE= PROMPT= NEW_TOKENS=$(NEW_TOKENS)   for infer; NEW_TOKENS for bench and chat as well
  TEMPERATURE= TOP_P= TOP_K= REPETITION_PENALTY= MIN_NEW_TOKENS= SEED= STOP=   for infer and chat
  SYSTEM=        text that a chat begins with
  FONT=          TrueType file for the labels of the boxes that infer draws
  ALLOW_URL=1    images may be https addresses, which are downloaded
  CUDA_ARCHS=    architectures of the GPU operators, for example "80 90a"; default: those of the cards here
  MARCH= CXX=    processor that the operators are compiled for (default: native), and the compiler
  ARMS=          arms of bench, by default those that this device has, paddle-stock aside
  ROUNDS= BATCH= rounds and batch of bench
  LAUNCHES=      new processes of every arm of bench, compare and regress
  BATCHES= LENGTHS=   further cases of bench, for example BATCHES=2,4 LENGTHS=1,64 (a GPU has some by default)
  BUDGET=        seconds of rounds of bench, which ends before when it knows enough; of all of compare and regress
  BASE=          git reference that compare measures HEAD against
  HASHES=1       check compares large files with their published hashes as well
  UPDATE=1       regress stores a new baseline
  ACCEPT=        reason why regress shall keep what it finds slower as a known step
  TESTS=         files of tests to run, instead of all
  CASES=         folder of the reference cases that replay runs
  VERDICT=       file that regress writes its verdict to (JSON)
  OUT=           where the target writes to, if it is one that writes (export, bench, infer, …)
  BUILD=$(BUILD)    folder of everything that is built on the way
  PYTHON=        interpreter (3.11, 3.12 or 3.13) that .venv is made with
  PADDLE=        2.6 or 3, the Paddle of .venv (default: what it has; for a new one 2.6, with Python 3.13 3)
  PADDLE_PYTHON= TORCH_PYTHON=   interpreters that have the packages already; both given: no .venv
  PADDLE_OTHER_PYTHON=   one that has another Paddle, on which bench then also runs the fused graphs
endef
help: export TEXT := $(HELP)
help: ## list the targets and variables
	@awk -F ':.*## ' 'BEGIN { print "make TARGET [VARIABLE=value …]\n" } END { print "\n" ENVIRON["TEXT"] } \
	  /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile 2> /dev/null || true  # a reader may leave

# --- environment ---

# .venv is made unless both interpreters are given.
READY := .venv/.ready
ENVIRONMENT := $(if $(filter .venv/%,$(PADDLE_PYTHON) $(TORCH_PYTHON)),$(READY))
WHEELS := $(STAMPS)/wheels

setup: $(ENVIRONMENT) $(WHEELS) ## make .venv from requirements.txt or requirements-3.txt

$(READY): $(if $(STALE),FORCE)
	scripts/setup.sh

$(WHEELS): FORCE | $(ENVIRONMENT)
	$(STAMP) --wheels $@

# --- operators ---

TOOLS := $(addprefix ops/,build.py compiler.py target.py toolchain.py)
OPS_SOURCES := ops/paddle ops/kernels ops/formats $(TOOLS)
STOCK_SOURCES := ops/stock $(addprefix ops/kernels/common/,arguments.h vector.cuh) ops/paddle/checks.h $(TOOLS)
OPS_TARGET := $(dir $(OPS_LIBRARY))target.json
STOCK_TARGET := $(STOCK)/target.json

ops: $(OPS_LIBRARY) $(STOCK_PACKAGES) ## build the operator library; install paddlenlp_ops and fused_ln
	@$(PADDLE_PYTHON) -m ops.stock.install $(STOCK)/packages

$(call made_from,$(OPS_LIBRARY),$(OPS_SOURCES) $(WHEELS) $(OPS_TARGET))
$(OPS_LIBRARY):
	$(PADDLE_PYTHON) -m ops.build --device $(USED_DEVICE) --out $(@D)
	$(MADE)

$(call made_from,$(STOCK_PACKAGES),$(STOCK_SOURCES) $(WHEELS) $(STOCK_TARGET))
$(STOCK_PACKAGES):
	$(PADDLE_PYTHON) -m ops.stock.build --device $(DEVICE) --out $(STOCK)
	$(MADE)

# What is there if it serves, else what would be built here and now
$(OPS_TARGET): FORCE | $(WHEELS)
	$(ALWAYS) -m ops.wanted library --device $(USED_DEVICE) --out $(@D)

$(STOCK_TARGET): FORCE | $(WHEELS)
	$(ALWAYS) -m ops.wanted stock --device $(DEVICE) --out $(@D)

# --- checkpoint ---

SHARED_SOURCES := core/config.py core/files.py ops/quantisation.py export/readers \
  $(wildcard ops/formats/*.py ops/formats/*/__init__.py)
CONVERT_SOURCES := $(addprefix export/,convert.py checkpoint.py names.py stored.py pdparams_writer.py) $(SHARED_SOURCES)

check: | $(ENVIRONMENT) ## say whether the downloaded checkpoint CKPT is whole, what it needs, what to do next
	@$(PADDLE_PYTHON) -m export.check $(CHECKPOINT) --converted $(CONVERTED) --exported $(EXPORTED_ROOT) \
	  $(if $(filter DTYPE,$(GIVEN)),--dtype $(DTYPE)) $(if $(HASHES),--hashes)

checkpoint: $(CHECKPOINT_MADE) ## make the random checkpoint of PRESET

ifeq ($(CKPT),)
$(call made_from,$(CHECKPOINT_MADE),export/presets/$(PRESET).json $(addprefix export/,synthetic.py vocabulary.py))
$(CHECKPOINT_MADE):
	$(PADDLE_PYTHON) -m export.synthetic --preset $(PRESET) $(CHECKPOINT)
	$(MADE)
endif

# Every file of the checkpoint, by content
CHECKPOINT_STAMP := $(STAMPS)/checkpoints/$(NAME)
$(CHECKPOINT_STAMP): FORCE | $(CHECKPOINT_MADE) $(ENVIRONMENT)
	$(STAMP) --checkpoint $(CHECKPOINT) $@ $(if $(CHECKPOINT_MADE),$(call stamp_of,$(CHECKPOINT_MADE)))

convert: $(CONVERTED)/model_state.pdparams ## convert the checkpoint to Paddle's names and layout

$(call made_from,$(CONVERTED)/model_state.pdparams,$(CHECKPOINT_STAMP) $(CONVERT_SOURCES))
$(CONVERTED)/model_state.pdparams:
	$(PADDLE_PYTHON) -m export.convert $(CHECKPOINT) $(CONVERTED)
	$(MADE)

# In a published layout; a folder to give as CKPT= then
QUANTISED := $(call out_or,quantize,$(BUILD)/quantised/$(NAME)-$(WEIGHTS))
QUANTISE_SOURCES := $(addprefix export/,quantise.py checkpoint.py names.py stored.py) $(SHARED_SOURCES)
quantize: $(QUANTISED)/model.safetensors ## write the checkpoint with its decoder in WEIGHTS=int8, int4, fp8

$(call made_from,$(QUANTISED)/model.safetensors,$(CHECKPOINT_STAMP) $(QUANTISE_SOURCES),$(WEIGHTS))
$(QUANTISED)/model.safetensors:
	$(PADDLE_PYTHON) -m export.quantise $(CHECKPOINT) $(QUANTISED) --weights "$$WEIGHTS"
	$(MADE)

# --- graphs ---

GRAPHS := vision language
EXPORT_SOURCES := $(filter-out export/convert.py export/synthetic.py export/stock.py,$(wildcard export/*.py)) \
  $(SHARED_SOURCES) $(addprefix ops/,weights.py functional.py) \
  $(addprefix ops/framework/,operators.py programs.py paddle2.py paddle3.py)
CONVERTED_STAMP := $(call stamp_of,$(CONVERTED)/model_state.pdparams)
SOURCES_fused := $(OPS_SOURCES) ops/library.py
SOURCES_native := ops/native.py
BUILT_fused := $(OPS_LIBRARY)
WITH_STOCK := PYTHONPATH="$(QWEN_VL_STOCK)$${PYTHONPATH:+:$$PYTHONPATH}"
# $(call graphs,IMPL): the manifests, each of which stands for its graph's folder
graphs = $(GRAPHS:%=$(EXPORTED_$1)/%/manifest.json)

export: export-vision export-language ## export both graphs
export-vision: $(EXPORTED_$(IMPL))/vision/manifest.json ## export the vision graph
export-language: $(EXPORTED_$(IMPL))/language/manifest.json ## export the language graph
export-stock: $(EXPORTED_stock)/language/manifest.json $(EXPORTED_stock)/vision/manifest.json ## export the stock graphs

# $(call export_rule,FOLDER,IMPL,GRAPH)
define export_rule
$(call made_from,$1/$3/manifest.json,$(CONVERTED_STAMP) $(EXPORT_SOURCES) $(SOURCES_$2) $(WHEELS),$(DTYPE) $2)
$1/$3/manifest.json: | $(CONVERTED)/model_state.pdparams $(BUILT_$2)
	$(PADDLE_PYTHON) -m export $3 $(CONVERTED) $1 --dtype $(DTYPE) --impl $2
	$$(MADE)
endef
$(foreach impl,fused native,$(foreach graph,$(GRAPHS),$(eval $(call export_rule,$(EXPORTED_$(impl)),$(impl),$(graph)))))

# The stock vision graph is that of Paddle's own layers, beside paddlenlp's own language graph.
$(eval $(call export_rule,$(EXPORTED_stock),native,vision))
$(call made_from,$(EXPORTED_stock)/language/manifest.json,\
  $(CONVERTED_STAMP) export/stock.py $(EXPORT_SOURCES) $(STOCK_PACKAGES) $(WHEELS),$(DTYPE))
$(EXPORTED_stock)/language/manifest.json: | $(CONVERTED)/model_state.pdparams
	$(WITH_STOCK) $(PADDLE_PYTHON) -m export.stock $(CONVERTED) $(EXPORTED_stock) --dtype $(DTYPE)
	$(MADE)

# --- answers ---

ASKED := $(call given,NEW_TOKENS,max-new-tokens) $(call given,IMAGE,image) $(call given,PROMPT,prompt)
KEPT := $(call given,WEIGHTS,weights)
SAMPLED := $(call given,TEMPERATURE,temperature) $(call given,TOP_P,top-p) $(call given,TOP_K,top-k) \
  $(call given,REPETITION_PENALTY,repetition-penalty) $(call given,MIN_NEW_TOKENS,min-new-tokens) \
  $(call given,SEED,seed) $(call given,STOP,stop)

ifeq ($(IMPL),stock)
infer: stock-machine export-stock
	$(WITH_STOCK) $(PADDLE_PYTHON) -m infer.stock --exported $(EXPORTED_stock) --device $(DEVICE) $(ASKED)
else
infer: export ## answer PROMPT about IMAGE (without both: the benchmark's)
	$(PADDLE_PYTHON) -m infer --exported $(EXPORTED_$(IMPL)) --device $(USED_DEVICE) $(KEPT) $(ASKED) $(SAMPLED) \
	  --out $(call out_or,infer,$(BUILD)/answers) $(call given,FONT,font)
endif

stock-machine: | $(ENVIRONMENT)
	@$(PADDLE_PYTHON) -m infer.stock --check --device $(DEVICE)

# An answer of a chat has room for more than infer's default.
chat: export ## talk with the model on this terminal
	@$(PADDLE_PYTHON) -m infer.chat --exported $(EXPORTED_$(IMPL)) --device $(USED_DEVICE) $(KEPT) \
	  $(call given,SYSTEM,system) \
	  $(if $(filter NEW_TOKENS,$(GIVEN)),$(call given,NEW_TOKENS,max-new-tokens)) $(SAMPLED)

replay: export ## run the reference CASES of CKPT through the graphs, write arrays to OUT
	$(PADDLE_PYTHON) -m infer.replay --exported $(EXPORTED_$(IMPL)) $(call given,CASES,cases) --out $(OUT) \
	  --device $(USED_DEVICE) $(KEPT)

# --- benchmark ---

BENCH := $(PADDLE_PYTHON) -m bench
BENCH_OPTIONS := --checkpoint $(CHECKPOINT) --dtype $(DTYPE) --device $(USED_DEVICE) \
  $(call given,NEW_TOKENS,new-tokens) $(call given,IMAGE,image) $(call given,PROMPT,prompt)
RESULT_OPTIONS := $(BENCH_OPTIONS) --out $(RESULTS) --preset $(NAME)
# An arm of the stock graphs runs on what export-stock made, and is skipped where there is nothing.
BENCH_EXPORTS := $(foreach impl,$(filter native fused,$(ARM_GRAPHS)),$(call graphs,$(impl))) \
  $(if $(filter other,$(ARM_GRAPHS)),other-paddle)
# A GPU run has further cases unless they are named; an arm that is slow does not make all of them.
CASE_OPTIONS := $(call given,BATCHES,batches) $(call given,LENGTHS,lengths)
ifeq ($(USED_DEVICE)$(BATCHES)$(LENGTHS),gpu)
CASE_OPTIONS := --batches 1,2,4,8,16 --lengths 1,16,64,128,256 --case-budget 15
endif

# Operators and fused graphs for the other Paddle, by a make of its own in a folder of its own
other-paddle: $(CHECKPOINT_MADE) | $(ENVIRONMENT)
	$(MAKE) export IMPL=fused CKPT=$(CHECKPOINT) DEVICE=$(USED_DEVICE) BUILD=$(BUILD)/other OUT=$(EXPORTED_other) ARMS= \
	  PADDLE= PADDLE_PYTHON="$$PADDLE_OTHER_PYTHON" TORCH_PYTHON="$$PADDLE_OTHER_PYTHON" PADDLE_OTHER_PYTHON=
OTHER_OPERATORS = $(call absolute,$(BUILD)/other/ops/$(USED_DEVICE)/libqwen_vl_ops.so)

# The goal and the variables that were given, for the results: what a reader has to give for the same again.
bench sweep compare regress reproduce: export QWEN_VL_MAKE = $@ $(filter $(GIVEN),PRESET CKPT DTYPE DEVICE IMPL \
  WEIGHTS NEW_TOKENS ARMS LAUNCHES ROUNDS BATCH BATCHES LENGTHS BUDGET BASE UPDATE ACCEPT IMAGE PROMPT \
  PADDLE_OTHER_PYTHON)

baseline: $(CHECKPOINT_MADE) | $(ENVIRONMENT) ## one pass of the PyTorch baseline: times and text
	$(BENCH) baseline $(BENCH_OPTIONS)

bench: $(CHECKPOINT_MADE) $(BENCH_EXPORTS) | $(ENVIRONMENT) ## compare Paddle with PyTorch, write results/
	$(if $(filter stock,$(ARM_GRAPHS)),$(WITH_STOCK)) $(BENCH) run $(RESULT_OPTIONS) $(CASE_OPTIONS) \
	  $(call given,ARMS,arms) $(call given,LAUNCHES,launches) $(call given,ROUNDS,rounds) $(call given,BATCH,batch) \
	  $(call given,BUDGET,budget) $(KEPT) \
	  $(foreach impl,$(filter-out -,$(ARM_GRAPHS)),--exported-$(impl) $(EXPORTED_$(impl))) \
	  $(if $(filter other,$(ARM_GRAPHS)),--paddle-other-env QWEN_VL_OPS=$(OTHER_OPERATORS))

sweep: $(CHECKPOINT_MADE) $(BENCH_EXPORTS) | $(ENVIRONMENT) ## engines over batch and length: sweep.csv for pictures
	$(BENCH) sweep $(RESULT_OPTIONS) $(KEPT) $(call given,ARMS,arms) $(call given,BATCHES,batches) \
	  $(call given,LENGTHS,lengths) \
	  $(foreach impl,$(filter-out -,$(ARM_GRAPHS)),--exported-$(impl) $(EXPORTED_$(impl)))

compare: $(CHECKPOINT_MADE) | $(ENVIRONMENT) ## measure HEAD beside the version BASE on this machine
	$(BENCH) compare $(RESULT_OPTIONS) $(KEPT) --impl $(IMPL) $(call given,BASE,base) --build $(BUILD) \
	  $(call given,LAUNCHES,launches) $(call given,BUDGET,deadline)

regress: $(CHECKPOINT_MADE) $(call graphs,$(IMPL)) | $(ENVIRONMENT) ## compare with the stored baseline
	$(BENCH) regress $(RESULT_OPTIONS) $(KEPT) --impl $(IMPL) --exported-$(IMPL) $(EXPORTED_$(IMPL)) \
	  $(if $(UPDATE),--update) $(call given,ACCEPT,accept) $(call given,VERDICT,verdict) \
	  $(call given,LAUNCHES,launches) $(call given,BUDGET,deadline)

reproduce: $(CHECKPOINT_MADE) $(call graphs,fused) | $(ENVIRONMENT) ## the published comparison beside this machine's
	$(BENCH) reproduce $(RESULT_OPTIONS) $(KEPT) --exported-fused $(EXPORTED_fused)

history: | $(ENVIRONMENT) ## timeline of all runs with its change points
	$(BENCH) history $(RESULTS)

report: | $(ENVIRONMENT) ## tables, plots, HTML page and README's figures from the stored rows
	$(BENCH) report $(RESULTS)

# --- the repository itself ---

doctor: ## say what this machine has and what will work
	@$(call quoted,$(ANY_PYTHON)) -m scripts.doctor

# Tests run makes of their own, which must not see these values.
test: $(OPS_LIBRARY) $(STOCK_PACKAGES) | $(ENVIRONMENT) ## run the tests
	tests="$${TESTS:-tests}"; unset $(filter-out %PYTHON CUDA_ARCHS,$(VARIABLES)) QWEN_VL_INHERITED QWEN_VL_VARIABLES; \
	$(PADDLE_PYTHON) -m pytest -q -n 2 --dist loadfile $$tests

lint: | $(ENVIRONMENT) ## check the style of Python, shell, C++ and CUDA files
	$(PADDLE_PYTHON) -m scripts.lint

clean: ## remove what was built (.venv and results stay)
	rm -rf $(addprefix $(BUILD)/,answers checkpoints converted exported ops other quantised stamps stock versions) \
	  .pytest_cache .ruff_cache .hypothesis
	if [[ -d $(BUILD) ]]; then rmdir --ignore-fail-on-non-empty $(BUILD); fi
	find . -path ./.venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
