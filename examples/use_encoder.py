"""A pretrained encoder in plain PyTorch: the images of a folder, sorted by how alike they are to the first.

python examples/use_encoder.py runs/stl10-cnn-pse4-s0 IMAGE [IMAGE ...]
"""

import sys

import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, resize

import pretext

encoder = pretext.load_encoder(sys.argv[1])  # a torch.nn.Module in eval mode
size = [encoder.image_size] * 2
images = torch.stack([resize(pil_to_tensor(Image.open(name).convert("RGB")), size) for name in sys.argv[2:]])
with torch.inference_mode():
    features = torch.nn.functional.normalize(encoder(images / 255), dim=1)
for cosine, name in sorted(zip((features @ features[0]).tolist(), sys.argv[2:], strict=True), reverse=True):
    print(f"{cosine:6.3f}  {name}")
