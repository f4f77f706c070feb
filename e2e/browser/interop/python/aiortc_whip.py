"""aiortc publishes a moving picture and a tone by WHIP, until its input ends.

usage: aiortc_whip.py URL TOKEN

Prints "publishing" once it is connected, and at the end, after it has deleted the session, the status of that as JSON.
"""

import asyncio
import json
import sys
import urllib.parse

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from source import FPS, RATE, SAMPLES, picture, sound
from whip import request


class Source(MediaStreamTrack):
    """Gives what `make` makes, so many times a second."""

    def __init__(self, kind, make, rate):
        self.kind = kind
        super().__init__()
        self.make, self.interval, self.number, self.began = make, 1 / rate, 0, None

    async def recv(self):
        now = asyncio.get_running_loop().time()
        self.began = now if self.began is None else self.began
        await asyncio.sleep(max(0, self.began + self.number * self.interval - now))
        frame = self.make(self.number)
        self.number += 1
        return frame


async def main(url, token):
    connection = RTCPeerConnection()
    connected = asyncio.Event()
    connection.on("connectionstatechange", lambda: connection.connectionState == "connected" and connected.set())
    connection.addTransceiver(Source("video", picture, FPS), direction="sendonly")
    connection.addTransceiver(Source("audio", sound, RATE / SAMPLES), direction="sendonly")
    await connection.setLocalDescription(await connection.createOffer())
    status, headers, answer = await asyncio.to_thread(request, "POST", url, token, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    await connected.wait()
    print("publishing", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    status, _, _ = await asyncio.to_thread(request, "DELETE", urllib.parse.urljoin(url, headers["location"]), token)
    print(json.dumps({"ended": status}), flush=True)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
