# Which loss network, and which of its layers, makes the best autoencoder? The autoencoding study of arXiv:2302.04032 on
# STL-10: 14 networks x 4 layers, beside losses on pixels, loss networks of random weights, and encoders never trained.
#
#   make -f examples/loss-networks.mk -j2                   the full study: 56 loss networks and 12 others; it wants a GPU
#   make -f examples/loss-networks.mk -j2 NETWORKS='squeezenet1_1 vgg16' RANDOMIZED=squeezenet1_1 EPOCHS=5
#   make ... JUDGMENTS=FOLDER                               also score every metric, and the encoders made here, on what
#                                                           people said of images (layouts: pretext score-metric --help)
#
# Results: report/report.html. Each run is LOSS.LAYER.SEED. Every arrow is a file, so an interrupted study goes on where it
# was, and `make -j` is safe: no two recipes write one folder. Published weights are downloaded to WEIGHTS once.

PRETEXT    ?= pretext
ROOT       ?= downloads
DATA       ?= data
WEIGHTS    ?= weights
RUNS       ?= runs
REPORT     ?= report
SEEDS      ?= 0
# Images without labels to pretrain on: stl10's own, or any prepared data set of 96 px images.
UNLABELED  ?= stl10
SPLIT      ?= unlabeled
EPOCHS     ?= 50
TRAINING   ?= --batch-size 256 --patience 10 --val-fraction 0.2 --lr 0.001 --schedule constant --warmup-epochs 0 --grad-clip 0
# The published autoencoders' loss networks saw images in 0..1 as they are; `imagenet` is what the networks were trained with.
NORMALIZE  ?= none
# A smaller encoder, for a machine without a GPU: WIDTH=0.5.
WIDTH      ?= 1

NETWORKS   ?= alexnet vgg11 vgg16 vgg16_bn vgg19 densenet121 resnet18 resnet50 resnext50_32x4d googlenet inception_v3 \
              squeezenet1_1 efficientnet_b0 efficientnet_b7
LAYERS     ?= 1 2 3 4
# The control that says what of it is owed to ImageNet: the same networks as they are initialised.
RANDOMIZED ?= vgg16 squeezenet1_1
# Several layers at once, each channel weighted as published: squeezenet1_1, alexnet or vgg16.
LPIPS      ?= squeezenet1_1
PIXELWISE  ?= mse pse4
TUNE       ?=

mse  := --loss mse
pse4 := --loss pse --sigma 4

JUDGMENTS  ?=
# Of the judgments, such as --image-size 64; and whose channels are weighted by a fit to their training part.
JUDGING    ?=
FITTED     ?= vgg16
# Layers in which the encoders made here compare images.
OWN_LAYERS ?= conv1,conv2,conv3,conv4

# Names are LOSS.LAYER.SEED: the parts are cut at the points.
part     = $(word $(1),$(subst ., ,$(2)))
STEMS   := $(foreach n,$(NETWORKS) $(RANDOMIZED:%=random-%),$(foreach l,$(LAYERS),$(n).$(l))) \
           $(LPIPS:%=lpips-%.all) $(PIXELWISE:%=%.all)
TRAINED := $(foreach s,$(SEEDS),$(STEMS:%=%.$(s)))
RANDOM  := $(SEEDS:%=untrained.none.%)
ENCODED := $(TRAINED) $(RANDOM)
# What a name means, asked with its LOSS and its LAYER.
loss     = $(or $($(1)),$(if $(filter lpips-%,$(1)),--loss lpips --loss-network $(1:lpips-%=%),\
             --loss perceptual --loss-network $(1:random-%=%) --layer $(2) --normalize $(NORMALIZE) \
             $(if $(filter random-%,$(1)),--loss-network-weights random)))

.PHONY: all pretrained evaluated judged
.SECONDARY:
all: $(REPORT)/report.html
pretrained: $(ENCODED:%=$(RUNS)/%/checkpoint.safetensors)

$(DATA)/stl10/manifest.json:
	$(PRETEXT) prepare-data stl10 --root $(ROOT) --data-dir $(DATA)

$(TRAINED:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/$(UNLABELED)/manifest.json
	$(PRETEXT) pretrain --data $(UNLABELED) --data-dir $(DATA) --split $(SPLIT) --encoder conv-k4 --width $(WIDTH) \
	  $(strip $(call loss,$(call part,1,$*),$(call part,2,$*))) --augment none --weights-dir $(WEIGHTS) \
	  --seed $(call part,3,$*) --epochs $(EPOCHS) $(TRAINING) --out $(RUNS)/$*

$(RANDOM:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/$(UNLABELED)/manifest.json
	$(PRETEXT) pretrain --data $(UNLABELED) --data-dir $(DATA) --objective random --encoder conv-k4 --width $(WIDTH) \
	  --seed $(call part,3,$*) --out $(RUNS)/$*

$(ENCODED:%=$(RUNS)/%/features.parquet): %/features.parquet: %/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features $* --data stl10 --data-dir $(DATA) --splits train,test

$(RUNS)/stl10-pixels/features.parquet: $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features --raw-pixels --data stl10 --data-dir $(DATA) --runs-dir $(RUNS) --splits train,test

%/probe-linear.json: %/features.parquet
	$(PRETEXT) probe $*

%/probe-mlp-seven.json: %/features.parquet
	$(PRETEXT) probe $* --kind mlp-seven

# The supervised control: the same network from new weights.
$(RUNS)/%/fine-tune-scratch.json: $(RUNS)/%/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) fine-tune $(RUNS)/$* --protocol scratch --data stl10 --data-dir $(DATA) $(TUNE)

RESULTS := $(foreach r,$(RANDOM),$(RUNS)/$(r)/fine-tune-scratch.json) \
           $(foreach r,$(ENCODED) stl10-pixels,$(RUNS)/$(r)/probe-linear.json $(RUNS)/$(r)/probe-mlp-seven.json)
evaluated: $(RESULTS)

# Metrics against people: judged.METRIC, where METRIC may name a network, and a layer or an encoder of the first seed.
ifneq ($(JUDGMENTS),)
FIRST   := $(firstword $(SEEDS))
METRICS := mse pse4 ssim $(foreach n,$(NETWORKS),unit.$(n) $(foreach l,$(LAYERS),perceptual.$(n).$(l))) \
           $(RANDOMIZED:%=random.%) $(LPIPS:%=published.%) $(FITTED:%=fitted.%) \
           $(foreach r,$(STEMS) untrained.none,own.$(r).$(FIRST))
SCORES  := $(METRICS:%=$(RUNS)/judged.%/score.json)
SCORE    = $(PRETEXT) score-metric $(JUDGMENTS) $(JUDGING) --weights-dir $(WEIGHTS) --out $(RUNS)/judged.$(1) --metric
endif
judged: $(SCORES)

$(RUNS)/judged.mse/score.json $(RUNS)/judged.ssim/score.json: $(RUNS)/judged.%/score.json:
	$(call SCORE,$*) $*
$(RUNS)/judged.pse4/score.json:
	$(call SCORE,pse4) pse --sigma 4
$(RUNS)/judged.unit.%/score.json:
	$(call SCORE,unit.$*) lpips --network $* --channel-weights unit
$(RUNS)/judged.published.%/score.json:
	$(call SCORE,published.$*) lpips --network $* --channel-weights published
$(RUNS)/judged.random.%/score.json:
	$(call SCORE,random.$*) lpips --network $* --network-weights random --channel-weights unit
$(RUNS)/judged.perceptual.%/score.json:
	$(call SCORE,perceptual.$*) perceptual --network $(call part,1,$*) --layer $(call part,2,$*)
$(RUNS)/judged.own.%/score.json: $(RUNS)/%/checkpoint.safetensors
	$(call SCORE,own.$*) lpips --network $(RUNS)/$* --layer $(OWN_LAYERS) --channel-weights unit
$(RUNS)/judged.fitted.%/score.json: $(RUNS)/fit.%/metric.safetensors
	$(call SCORE,fitted.$*) lpips --network $* --channel-weights $(RUNS)/fit.$*
$(RUNS)/fit.%/metric.safetensors:
	$(PRETEXT) fit-metric $(JUDGMENTS) $(JUDGING) --weights-dir $(WEIGHTS) --network $* --out $(RUNS)/fit.$*

$(REPORT)/report.html: $(RESULTS) $(SCORES)
	$(PRETEXT) report $(RUNS) --out $(REPORT) --title "Which loss network, and which of its layers, on STL-10"
