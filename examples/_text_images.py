"""Pictures of text for the examples, the same every time: drawn with the font that Pillow brings."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]


def draw_captcha(text: str, seed: int) -> Pixels:
    """64 rows of grey: characters turned and shifted at random, and three lines across them."""
    rng = np.random.default_rng(seed)
    font = ImageFont.load_default(40)
    pitch, side = 36, 60
    image = Image.new("L", (20 + pitch * len(text), 64), 255)
    for index, character in enumerate(text):
        glyph = Image.new("L", (side, side))
        ImageDraw.Draw(glyph).text((side / 2, side / 2), character, 255, font, anchor="mm")
        turned = glyph.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC)
        image.paste(0, (pitch * index - 2, 2 + int(rng.integers(-4, 5))), turned)
    for _ in range(3):
        (x0, x1), (y0, y1) = rng.integers(0, image.width, 2), rng.integers(0, image.height, 2)
        ImageDraw.Draw(image).line([int(x0), int(y0), int(x1), int(y1)], 100, 2)
    return np.asarray(image)


def draw_line(text: str, height: int) -> Pixels:
    """A line of text, black on white, `height` rows of grey, cut close to it."""
    font = ImageFont.load_default(0.7 * height)
    margin = 4
    image = Image.new("L", (int(font.getlength(text)) + 2 * margin, height), 255)
    ImageDraw.Draw(image).text((margin, height / 2), text, 0, font, anchor="lm")
    return np.asarray(image)
