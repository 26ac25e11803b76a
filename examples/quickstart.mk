# The six stages on drawn shapes, on a CPU: which pretext task gives the better encoder, and is the difference real?
#
#   make -f examples/quickstart.mk            (or `make demo`; about three minutes on two cores)
#
# Every arrow of the chain is a file, so Make runs what is missing and nothing else. Two losses, two seeds, two controls.

PRETEXT ?= pretext
OUT     ?= demo
DATA    := $(OUT)/data
RUNS    := $(OUT)/runs
SEEDS   := 0 1

LOSSES  := mse pse
TRAINED := $(foreach loss,$(LOSSES),$(foreach seed,$(SEEDS),$(loss)-s$(seed)))
RANDOM  := $(foreach seed,$(SEEDS),random-s$(seed))
ENCODED := $(TRAINED) $(RANDOM)
ALL     := $(ENCODED) shapes-pixels

TRAIN   := --data-dir $(DATA) --encoder cnn --width 0.5
mse     := --loss mse
pse     := --loss pse --sigma 1

.PHONY: all
all: $(OUT)/report/report.html

$(DATA)/shapes/manifest.json:
	$(PRETEXT) prepare-data shapes --data-dir $(DATA)

$(TRAINED:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/shapes/manifest.json
	$(PRETEXT) pretrain $(TRAIN) $($(firstword $(subst -s, ,$*))) --seed $(lastword $(subst -s, ,$*)) \
	  --epochs 6 --out $(RUNS)/$*

$(RANDOM:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/random-s%/checkpoint.safetensors: $(DATA)/shapes/manifest.json
	$(PRETEXT) pretrain $(TRAIN) --objective random --seed $* --out $(RUNS)/random-s$*

$(ENCODED:%=$(RUNS)/%/features.parquet): %/features.parquet: %/checkpoint.safetensors
	$(PRETEXT) extract-features $* --data-dir $(DATA) --splits train,test

$(RUNS)/shapes-pixels/features.parquet: $(DATA)/shapes/manifest.json
	$(PRETEXT) extract-features --raw-pixels --data-dir $(DATA) --runs-dir $(RUNS) --splits train,test

%/probe-linear.json: %/features.parquet
	$(PRETEXT) probe $* --labels-per-class 1,4,16,64

%/probe-knn.json: %/features.parquet
	$(PRETEXT) probe $* --kind knn

%/fine-tune-full.json: %/checkpoint.safetensors
	$(PRETEXT) fine-tune $* --data-dir $(DATA) --protocol full --augment small --epochs 15 --k 2 \
	  --seed $(lastword $(subst -s, ,$*))

%/fine-tune-scratch.json: %/checkpoint.safetensors
	$(PRETEXT) fine-tune $* --data-dir $(DATA) --protocol scratch --augment small --epochs 15 --k 2 \
	  --seed $(lastword $(subst -s, ,$*))

$(OUT)/report/report.html: $(ALL:%=$(RUNS)/%/probe-linear.json) $(ALL:%=$(RUNS)/%/probe-knn.json) \
                           $(TRAINED:%=$(RUNS)/%/fine-tune-full.json) $(RANDOM:%=$(RUNS)/%/fine-tune-scratch.json)
	$(PRETEXT) report $(RUNS) --out $(OUT)/report
