"""Changes of place: whole-pixel windows by copying, everything else as one bilinear lookup per output pixel.

Positions are `grid_sample`'s: -1 and 1 are the outer edges of the image, not the centres of its outer pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pretext.augment.draws import Draws, rectangle_corners


def crop_and_flip(image_BCHW: Tensor, *, padding: int, shift_B2: Tensor | None, flip_B: Tensor | None) -> Tensor:
    """Move and mirror images by whole pixels; what comes in from outside is black, every other value is a copy.

    Args:
        image_BCHW: Any dtype; channels_last is the fast layout.
        padding: Width of the black border in pixels, >= 0.
        shift_B2: Window's top left corner (row, column) in the padded image, 0..2 * padding; None for the middle.
        flip_B: True where the window is mirrored left to right; None for nowhere.

    Returns:
        image_BCHW in channels_last layout.

    Cost: one copy with the border, one gather of pixels.
    """
    B, C, H, W = image_BCHW.shape
    device = image_BCHW.device
    padded_BHWC = F.pad(image_BCHW.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    row_BH = torch.arange(H, device=device).expand(B, H)
    column_BW = torch.arange(W, device=device).expand(B, W)
    if flip_B is not None:
        column_BW = torch.where(flip_B.to(device)[:, None], W - 1 - column_BW, column_BW)
    if shift_B2 is None:
        row_BH, column_BW = row_BH + padding, column_BW + padding
    else:
        shift_B2 = shift_B2.to(device)
        row_BH, column_BW = row_BH + shift_B2[:, :1], column_BW + shift_B2[:, 1:]
    row_BH = row_BH + torch.arange(B, device=device)[:, None] * (H + 2 * padding)
    pixel_BHW = (row_BH * (W + 2 * padding))[:, :, None] + column_BW[:, None, :]
    moved_NC = padded_BHWC.reshape(-1, C).index_select(0, pixel_BHW.reshape(-1))
    return moved_NC.view(B, H, W, C).permute(0, 3, 1, 2)


def warp(image_BCHW: Tensor, draws: Draws) -> Tensor:
    """Crop and enlarge, mirror, rotate and tilt, in this order, reading each output pixel from the original once.

    Chained library calls would interpolate, and so blur, up to three times. The crop repeats its border pixels where
    the enlargement reaches past them; rotation and perspective show black, blended over one pixel, as torchvision's do.

    Args:
        image_BCHW: Floats, any range; contiguous is the fast layout.
        draws: Of which box_B4, flip_B, angle_B and corner_B42 count.

    Returns:
        image_BCHW of the same size, contiguous.

    Cost: about twelve passes over one plane of positions (thrice that for images in perspective) and one `grid_sample`.
    """
    B, _, H, W = image_BCHW.shape
    rotation_B33, crop_B33, bound_B4 = _rotation(draws, B, H, W), _crop(draws, B, H, W), _bounds(draws, B, H, W)
    grid_BHW2, seen_BHW = _look_up(rotation_B33, crop_B33, bound_B4, image_BCHW, tilt_B33=None)
    if draws.corner_B42 is not None:
        tilted = (draws.corner_B42 != rectangle_corners(H, W)).flatten(1).any(dim=1).nonzero()[:, 0]
        tilt_B33 = _perspective(draws.corner_B42[tilted], H, W)
        of_tilted = _look_up(rotation_B33[tilted], crop_B33[tilted], bound_B4[tilted], image_BCHW, tilt_B33=tilt_B33)
        tilted = tilted.to(image_BCHW.device)
        grid_BHW2[tilted], seen_BHW[tilted] = of_tilted
    warped_BCHW = F.grid_sample(image_BCHW, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False)
    if draws.angle_B is None and draws.corner_B42 is None:
        return warped_BCHW
    return warped_BCHW.mul_(seen_BHW[:, None])


def _look_up(
    rotation_B33: Tensor, crop_B33: Tensor, bound_B4: Tensor, like_BCHW: Tensor, *, tilt_B33: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Where each output pixel reads the original, and how much of what it reads lies inside every frame on the way."""
    H, W = like_BCHW.shape[2:]
    x_W = torch.arange(W, dtype=torch.float64).mul_(2).add_(1).div_(W).sub_(1).to(like_BCHW)
    y_H = torch.arange(H, dtype=torch.float64).mul_(2).add_(1).div_(H).sub_(1).to(like_BCHW)

    def plane(row_B3: Tensor) -> Tensor:
        a_B, b_B, c_B = row_B3.to(like_BCHW).unbind(1)
        across_BW: Tensor = a_B[:, None] * x_W + c_B[:, None]
        down_BH: Tensor = b_B[:, None] * y_H
        return across_BW[:, None, :] + down_BH[:, :, None]

    def frame(matrix_B33: Tensor, depth_BHW: Tensor | None) -> list[Tensor]:
        planes = [plane(matrix_B33[:, 0]), plane(matrix_B33[:, 1])]
        return planes if depth_BHW is None else [position_BHW.mul_(depth_BHW) for position_BHW in planes]

    def seen(x_BHW: Tensor, y_BHW: Tensor) -> Tensor:
        # 1 inside, 0 a pixel beyond the last pixel centre: what bilinear lookup in a picture of ones would give
        cover_x_BHW = x_BHW.abs_().mul_(-W / 2).add_((W + 1) / 2).clamp_(0, 1)
        return cover_x_BHW.mul_(y_BHW.abs_().mul_(-H / 2).add_((H + 1) / 2).clamp_(0, 1))

    depth_BHW = None
    if tilt_B33 is not None:
        depth_BHW = plane(tilt_B33[:, 2]).reciprocal_()
        before_BHW = seen(*frame(tilt_B33, depth_BHW))
        rotation_B33 = rotation_B33 @ tilt_B33
    seen_BHW = seen(*frame(rotation_B33, depth_BHW))
    if tilt_B33 is not None:
        seen_BHW = torch.minimum(seen_BHW, before_BHW)  # not the product: without a rotation both are one edge
    x_BHW, y_BHW = frame(crop_B33 @ rotation_B33, depth_BHW)
    left_B, right_B, top_B, bottom_B = (bound_B[:, None, None] for bound_B in bound_B4.to(like_BCHW).unbind(1))
    return torch.stack([x_BHW.clamp_(left_B, right_B), y_BHW.clamp_(top_B, bottom_B)], dim=3), seen_BHW


def _rotation(draws: Draws, B: int, H: int, W: int) -> Tensor:
    matrix_B33 = torch.eye(3, dtype=torch.float64).repeat(B, 1, 1)
    if draws.angle_B is not None:
        radian_B = draws.angle_B.double().deg2rad()
        matrix_B33[:, 0, 0] = matrix_B33[:, 1, 1] = radian_B.cos()
        matrix_B33[:, 0, 1] = -radian_B.sin() * H / W
        matrix_B33[:, 1, 0] = radian_B.sin() * W / H
    return matrix_B33


def _boxes(draws: Draws, B: int, H: int, W: int) -> tuple[Tensor, ...]:
    box_B4 = torch.tensor([[0, 0, H, W]]).expand(B, 4) if draws.box_B4 is None else draws.box_B4
    return box_B4.double().unbind(1)


def _crop(draws: Draws, B: int, H: int, W: int) -> Tensor:
    top_B, left_B, height_B, width_B = _boxes(draws, B, H, W)
    matrix_B33 = torch.zeros(B, 3, 3, dtype=torch.float64)
    matrix_B33[:, 0, 0] = width_B / W * (1.0 if draws.flip_B is None else 1.0 - 2.0 * draws.flip_B)
    matrix_B33[:, 0, 2] = (2 * left_B + width_B) / W - 1
    matrix_B33[:, 1, 1] = height_B / H
    matrix_B33[:, 1, 2] = (2 * top_B + height_B) / H - 1
    matrix_B33[:, 2, 2] = 1
    return matrix_B33


def _bounds(draws: Draws, B: int, H: int, W: int) -> Tensor:
    """Centres of the crop's outer pixels: left, right, top, bottom."""
    top_B, left_B, height_B, width_B = _boxes(draws, B, H, W)
    centre_B4 = torch.stack([left_B, left_B + width_B - 1, top_B, top_B + height_B - 1], dim=1)
    return (2 * centre_B4 + 1) / torch.tensor([W, W, H, H]) - 1


def _perspective(corner_B42: Tensor, H: int, W: int) -> Tensor:
    """Matrices that send each given corner position, (x, y) in pixels, back to the image's own corner.

    The eight free entries of a projective map follow from four pairs of points. Corners are numbered from 0 at the
    centre of the first pixel but looked up from 0 at its outer edge, half a pixel beside: torchvision's convention,
    kept for parity.
    """
    moved_B42 = corner_B42.double()
    origin_B42 = rectangle_corners(H, W).double().expand_as(moved_B42)
    one_B41 = torch.ones_like(moved_B42[..., :1])
    homogeneous_B43 = torch.cat([moved_B42, one_B41], dim=2)
    nothing_B43 = torch.zeros_like(homogeneous_B43)
    equation_B88 = torch.cat(
        [
            torch.cat([homogeneous_B43, nothing_B43, -moved_B42 * origin_B42[..., :1]], dim=2),
            torch.cat([nothing_B43, homogeneous_B43, -moved_B42 * origin_B42[..., 1:]], dim=2),
        ],
        dim=1,
    )
    entry_B8 = torch.linalg.solve(equation_B88, origin_B42.transpose(1, 2).flatten(1))
    in_pixels_B33: Tensor = torch.cat([entry_B8, one_B41[:, 0]], dim=1).view(-1, 3, 3)
    to_pixels_33 = torch.tensor([[W / 2, 0, W / 2], [0, H / 2, H / 2], [0, 0, 1]], dtype=torch.float64)
    return torch.linalg.inv(to_pixels_33) @ in_pixels_B33 @ to_pixels_33
