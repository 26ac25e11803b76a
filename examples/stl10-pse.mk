# Does proximally sensitive error pretrain better encoders than MSE? Every row of the slides' two tables on STL-10.
#
#   make -f examples/stl10-pse.mk -j2                       the full study: 9 encoders x 3 seeds, a GPU and a day
#   make -f examples/stl10-pse.mk -j2 WIDTH=0.25 EPOCHS=6 SEEDS='0 1' ENCODERS=cnn PROTOCOLS=frozen      an hour on two cores
#
# Results: report/report.html. Rows are named as the slides name them; `pse` is the clean form of the loss (unit-sum
# kernel cut at 4 sigma, symmetric padding), `pse-slides` the slides' own code. Every arrow is a file, so an interrupted
# study goes on where it was, and `make -j` is safe: no two recipes write one folder.

PRETEXT    ?= pretext
ROOT       ?= downloads
DATA       ?= data
RUNS       ?= runs
REPORT     ?= report
SEEDS      ?= 0 1 2
ENCODERS   ?= cnn resnet18
WIDTH      ?= 1
EPOCHS     ?= 100
# Images without labels to pretrain on: stl10's own, or any prepared data set of 96 px images.
UNLABELED  ?= stl10
LR         ?= 0.001
PROTOCOLS  ?= frozen as-coded-ft as-coded-frozen full
# Most epochs where the network runs in every epoch; heads on stored features cost little and get their default.
TUNE_EPOCHS ?= 100

frozen_OPTIONS      := --head slides
full_OPTIONS         = --epochs $(TUNE_EPOCHS)
scratch_OPTIONS      = --epochs $(TUNE_EPOCHS)
as-coded-ft_OPTIONS  = --epochs $(TUNE_EPOCHS)

cnn_LOSSES      := mse pse3 pse4 pse5 pse6 pse-slides3 pse-slides4 pse-slides5 pse-slides6
resnet18_LOSSES := mse pse3 pse-slides3

mse         := --loss mse
pse3        := --loss pse --sigma 3
pse4        := --loss pse --sigma 4
pse5        := --loss pse --sigma 5
pse6        := --loss pse --sigma 6
pse-slides3 := --loss pse-slides --sigma 3
pse-slides4 := --loss pse-slides --sigma 4
pse-slides5 := --loss pse-slides --sigma 5
pse-slides6 := --loss pse-slides --sigma 6

# Names are ENCODER_LOSS_SEED: the parts are cut at the underscores.
TRAINED := $(foreach s,$(SEEDS),$(foreach e,$(ENCODERS),$(foreach l,$($(e)_LOSSES),$(e)_$(l)_$(s))))
RANDOM  := $(foreach s,$(SEEDS),$(foreach e,$(ENCODERS),$(e)_random_$(s)))
ENCODED := $(TRAINED) $(RANDOM)
part     = $(word $(1),$(subst _, ,$(2)))

.PHONY: all pretrained evaluated
all: $(REPORT)/report.html
pretrained: $(ENCODED:%=$(RUNS)/%/checkpoint.safetensors)

$(DATA)/stl10/manifest.json:
	$(PRETEXT) prepare-data stl10 --root $(ROOT) --data-dir $(DATA)

$(TRAINED:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/$(UNLABELED)/manifest.json
	$(PRETEXT) pretrain --data $(UNLABELED) --data-dir $(DATA) --split unlabeled --encoder $(call part,1,$*) \
	  --width $(WIDTH) $($(call part,2,$*)) --seed $(call part,3,$*) --epochs $(EPOCHS) --lr $(LR) --out $(RUNS)/$*

$(RANDOM:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/$(UNLABELED)/manifest.json
	$(PRETEXT) pretrain --data $(UNLABELED) --data-dir $(DATA) --objective random --encoder $(call part,1,$*) \
	  --width $(WIDTH) --seed $(call part,3,$*) --out $(RUNS)/$*

$(ENCODED:%=$(RUNS)/%/features.parquet): %/features.parquet: %/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features $* --data stl10 --data-dir $(DATA) --splits train,test

$(RUNS)/stl10-pixels/features.parquet: $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features --raw-pixels --data stl10 --data-dir $(DATA) --runs-dir $(RUNS) --splits train,test

%/probe-linear.json: %/features.parquet
	$(PRETEXT) probe $* --labels-per-class 1,4,16,64

%/probe-knn.json: %/features.parquet
	$(PRETEXT) probe $* --kind knn

define protocol
%/fine-tune-$(1).json: %/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) fine-tune $$* --data stl10 --data-dir $(DATA) --protocol $(1) $$($(1)_OPTIONS)
endef
$(foreach p,$(PROTOCOLS) scratch,$(eval $(call protocol,$(p))))

# The supervised control stands beside the first random encoder of each shape: it does not depend on pretraining.
SCRATCH := $(foreach e,$(ENCODERS),$(RUNS)/$(e)_random_$(firstword $(SEEDS))/fine-tune-scratch.json)

RESULTS := $(foreach r,$(ENCODED) stl10-pixels,$(RUNS)/$(r)/probe-linear.json $(RUNS)/$(r)/probe-knn.json) \
           $(foreach r,$(ENCODED),$(foreach p,$(PROTOCOLS),$(RUNS)/$(r)/fine-tune-$(p).json)) $(SCRATCH)
evaluated: $(RESULTS)

$(REPORT)/report.html: $(RESULTS)
	$(PRETEXT) report $(RUNS) --out $(REPORT) --title "PSE against MSE on STL-10"
