"""FFmpeg publishes a moving picture and a tone by WHIP, until its input ends.

usage: ffmpeg_whip.py URL TOKEN [dtls_active]

Says "publishing" when the session is made and packets flow, and "ended" after it has deleted the session.
"""

import sys
import tempfile
import threading
import time
from datetime import datetime, timedelta, timezone

import av
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from source import FPS, HEIGHT, RATE, SAMPLES, WIDTH, picture, sound


def certificate(directory):
    """A P-256 certificate: FFmpeg's own is of a kind that not every build can make."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whip")])
    now = datetime.now(timezone.utc)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    with open(f"{directory}/cert.pem", "wb") as file:
        file.write(cert.public_bytes(pem))
    with open(f"{directory}/key.pem", "wb") as file:
        format = serialization.PrivateFormat.PKCS8
        file.write(key.private_bytes(pem, format, serialization.NoEncryption()))
    return {"cert_file": f"{directory}/cert.pem", "key_file": f"{directory}/key.pem"}


def main(url, token, *flags):
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        options = {"authorization": token, **certificate(directory)}
        if flags:
            options["whip_flags"] = "+".join(flags)
        output = av.open(url, "w", format="whip", options=options)
        video = output.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "g": str(FPS)}
        video.codec_context.max_b_frames = 0
        audio = output.add_stream("libopus", rate=RATE, layout="stereo")
        began, pictures, sounds = time.monotonic(), 0, 0
        while not stop.is_set():
            passed = time.monotonic() - began
            while sounds * SAMPLES < passed * RATE:
                output.mux(audio.encode(sound(sounds)))
                sounds += 1
            while pictures < passed * FPS:
                output.mux(video.encode(picture(pictures)))
                pictures += 1
                if pictures == FPS:
                    print("publishing", flush=True)
            time.sleep(0.005)
        output.close()
    print("ended", flush=True)


main(*sys.argv[1:])
