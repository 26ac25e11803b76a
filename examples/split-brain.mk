# Does predicting colour from light and light from colour pretrain better encoders than denoising, and in which colour
# space? The student project's table (Budhkar et al., LeProject), the original's ablations (arXiv:1611.09842), on STL-10.
#
#   make -f examples/split-brain.mk -j2                    the full study: 4 encoders x 3 seeds; it wants a GPU
#   make -f examples/split-brain.mk -j2 SEEDS='0 1' ENCODERS='simplenet5 conv4' EPOCHS=3 PROTOCOLS=
#   make ... TRAINING='--batch-size 64 --lr 0.0001 --schedule step --gamma 0.5 --warmup-epochs 0 --grad-clip 0' \
#        UNSTRATIFIED=--unstratified                       the student project's optimisation and few-label draws
#
# Results: report/report.html. Each row is ENCODER_METHOD_SEED. Every arrow is a file, so an interrupted study goes on
# where it was, and `make -j` is safe: no two recipes write one folder.

PRETEXT    ?= pretext
ROOT       ?= downloads
DATA       ?= data
RUNS       ?= runs
REPORT     ?= report
SEEDS      ?= 0 1 2
ENCODERS   ?= simplenet5 resnet18-fcn alexnet-fcn conv4
EPOCHS     ?= 20
TRAINING   ?= --batch-size 64 --lr 0.001
# Images without labels to pretrain on: stl10's own, or any prepared data set of 96 px images with the colour spaces below.
UNLABELED  ?= stl10
SPACES     ?= rgb,lab,lab-rescaled
PROTOCOLS  ?= student
TUNE       ?= --epochs 10
FEW_LABELS ?= 1,2,4,8,16,32,64
# Numbers that remain of each layer's map, so that encoders of different width are compared by as many features.
MAX_FEATURES ?= 9600
EXTRACT      ?=

# A split-brain network at width 0.5 has as many channels as one network at width 1, and half its weights.
WIDTH      ?= 1

simplenet5_METHODS   ?= rgb lab rescaled salt
resnet18-fcn_METHODS ?= rgb lab rescaled salt
alexnet-fcn_METHODS  ?= rgb lab rescaled
conv4_METHODS        ?= salt mask gauss
# The original paper's ablations, for the encoders named here.
ABLATED              ?= simplenet5
ABLATIONS            ?= colorize light one-net two-colorizers

simplenet5_LAYERS   ?= conv1 conv2 conv3 conv4
resnet18-fcn_LAYERS ?= stem layer1 layer2 layer3
alexnet-fcn_LAYERS  ?= conv1 conv2 conv3 conv4 conv5
conv4_LAYERS        ?= conv1 conv2 conv3 conv4

rgb            := --objective split-brain --color-space rgb
lab            := --objective split-brain --color-space lab
rescaled       := --objective split-brain --color-space lab-rescaled
colorize       := --objective colorize --color-space lab
light          := --objective predict-light --color-space lab
one-net        := --objective cross-channel --color-space lab
two-colorizers := --objective two-colorizers --color-space lab
salt           := --objective denoise --noise salt-pepper --augment flip
mask           := --objective denoise --noise masking --augment flip
gauss          := --objective denoise --noise gaussian --augment flip
# Controls, never trained: the shape of a split-brain in Lab and in RGB, and of one network that sees all of RGB.
random          = --objective random $(if $(filter conv4,$(call part,1,$*)),,--color-space lab)
random-rgb     := --objective random --color-space rgb
random-plain   := --objective random

# Names are ENCODER_METHOD_SEED: the parts are cut at the underscores.
part     = $(word $(1),$(subst _, ,$(2)))
methods  = $($(1)_METHODS) $(if $(filter $(1),$(ABLATED)),$(ABLATIONS))
TRAINED := $(foreach s,$(SEEDS),$(foreach e,$(ENCODERS),$(foreach m,$(call methods,$(e)),$(e)_$(m)_$(s))))
CONTROLS = random $(if $(filter conv4,$(1)),,random-rgb random-plain)
RANDOM  := $(foreach s,$(SEEDS),$(foreach e,$(ENCODERS),$(foreach m,$(call CONTROLS,$(e)),$(e)_$(m)_$(s))))
ENCODED := $(TRAINED) $(RANDOM)

.PHONY: all pretrained evaluated
.SECONDARY:
all: $(REPORT)/report.html
pretrained: $(ENCODED:%=$(RUNS)/%/checkpoint.safetensors)

$(DATA)/stl10/manifest.json:
	$(PRETEXT) prepare-data stl10 --root $(ROOT) --data-dir $(DATA) --color-space $(SPACES)

$(TRAINED:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/$(UNLABELED)/manifest.json
	$(PRETEXT) pretrain --data $(UNLABELED) --data-dir $(DATA) --split unlabeled --encoder $(call part,1,$*) \
	  --width $(or $(WIDTH_$(call part,1,$*)),$(WIDTH)) $($(call part,2,$*)) \
	  --seed $(call part,3,$*) --epochs $(or $(EPOCHS_$(call part,1,$*)),$(EPOCHS)) $(TRAINING) --out $(RUNS)/$*

$(RANDOM:%=$(RUNS)/%/checkpoint.safetensors): $(RUNS)/%/checkpoint.safetensors: $(DATA)/$(UNLABELED)/manifest.json
	$(PRETEXT) pretrain --data $(UNLABELED) --data-dir $(DATA) $($(call part,2,$*)) --encoder $(call part,1,$*) \
	  --width $(or $(WIDTH_$(call part,1,$*)),$(WIDTH)) --seed $(call part,3,$*) --out $(RUNS)/$*

# One feature file a layer; `latent` is the average over places of the last hidden map.
define layer
$(RUNS)/%/features-$(1).parquet: $(RUNS)/%/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features $(RUNS)/$$* --data stl10 --data-dir $(DATA) --splits train,test --layer $(1) \
	  --pool resize --max-features $(MAX_FEATURES) $(EXTRACT)

$(RUNS)/%/probe-linear-$(1).json: $(RUNS)/%/features-$(1).parquet
	$(PRETEXT) probe $(RUNS)/$$* --layer $(1)
endef
$(foreach l,$(sort $(foreach e,$(ENCODERS),$($(e)_LAYERS))),$(eval $(call layer,$(l))))

$(ENCODED:%=$(RUNS)/%/features.parquet): %/features.parquet: %/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features $* --data stl10 --data-dir $(DATA) --splits train,test $(EXTRACT)

$(RUNS)/stl10-pixels/features.parquet: $(DATA)/stl10/manifest.json
	$(PRETEXT) extract-features --raw-pixels --data stl10 --data-dir $(DATA) --runs-dir $(RUNS) --splits train,test

%/probe-linear.json: %/features.parquet
	$(PRETEXT) probe $* --labels-per-class $(FEW_LABELS) $(UNSTRATIFIED)

%/probe-knn.json: %/features.parquet
	$(PRETEXT) probe $* --kind knn

define protocol
$(RUNS)/%/fine-tune-$(1).json: $(RUNS)/%/checkpoint.safetensors $(DATA)/stl10/manifest.json
	$(PRETEXT) fine-tune $(RUNS)/$$* --data stl10 --data-dir $(DATA) --protocol $(1) $(TUNE)
endef
$(foreach p,student student-dae scratch,$(eval $(call protocol,$(p))))

# The student project's classifier reads the logits of a split-brain; its denoising nets have a protocol of their own.
SPLIT    := rgb lab rescaled $(ABLATIONS) random random-rgb
tuned     = $(foreach p,$(PROTOCOLS),$(if $(filter conv4,$(call part,1,$(1))),student-dae,\
              $(if $(filter $(SPLIT),$(call part,2,$(1))),$(p))))
# The supervised control stands beside the first random encoder of each shape: it does not depend on pretraining.
SCRATCH  := $(if $(PROTOCOLS),$(foreach e,$(ENCODERS),$(RUNS)/$(e)_random_$(firstword $(SEEDS))/fine-tune-scratch.json))
RESULTS  := $(foreach r,$(ENCODED) stl10-pixels,$(RUNS)/$(r)/probe-linear.json $(RUNS)/$(r)/probe-knn.json) \
            $(foreach r,$(ENCODED),$(foreach l,$($(call part,1,$(r))_LAYERS),$(RUNS)/$(r)/probe-linear-$(l).json)) \
            $(foreach r,$(ENCODED),$(foreach p,$(call tuned,$(r)),$(RUNS)/$(r)/fine-tune-$(p).json)) $(SCRATCH)
evaluated: $(RESULTS)

$(REPORT)/report.html: $(RESULTS)
	$(PRETEXT) report $(RUNS) --out $(REPORT) --title "Predicting colour against denoising, on STL-10"
