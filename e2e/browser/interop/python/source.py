"""A moving picture and a tone, for programs that have no camera."""

import math
import struct
from fractions import Fraction

import av

WIDTH, HEIGHT, FPS = 320, 180, 15
RATE, SAMPLES = 48_000, 960


def picture(number):
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    luma = bytes((x + 4 * number) % 220 + 16 for x in range(frame.planes[0].line_size))
    frame.planes[0].update(luma * HEIGHT)
    for plane in frame.planes[1:]:
        plane.update(bytes([128]) * plane.buffer_size)
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


def sound(number):
    frame = av.AudioFrame("s16", "stereo", SAMPLES)
    tone = [int(9000 * math.sin(2 * math.pi * 440 * (number * SAMPLES + i) / RATE)) for i in range(SAMPLES)]
    frame.planes[0].update(b"".join(struct.pack("<hh", value, value) for value in tone))
    frame.sample_rate, frame.pts, frame.time_base = RATE, number * SAMPLES, Fraction(1, RATE)
    return frame
