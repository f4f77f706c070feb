"""aiortc plays by WHEP, until its input ends.

usage: aiortc_whep.py URL TOKEN

Prints a JSON line a second: pictures decoded, their size, seconds of sound that was not silence, and how often
the SSRCs changed. At the end it deletes the session and prints the status of that.
"""

import asyncio
import json
import sys
import urllib.parse

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from whip import request

state = {"frames": 0, "size": None, "sound": 0.0, "status": None}


async def watch(track):
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        if track.kind == "video":
            state["frames"] += 1
            state["size"] = [frame.width, frame.height]
        elif any(bytes(frame.planes[0])[::64]):
            state["sound"] += frame.samples / frame.sample_rate


async def main(url, token):
    connection = RTCPeerConnection()
    tasks = []
    connection.on("track", lambda track: tasks.append(asyncio.ensure_future(watch(track))))
    connection.addTransceiver("video", direction="recvonly")
    connection.addTransceiver("audio", direction="recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    offer = connection.localDescription.sdp
    status, headers, answer = await asyncio.to_thread(request, "POST", url, token, offer)
    state["status"] = status
    await connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    session = urllib.parse.urljoin(url, headers["location"])
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    while not ended.done():
        await asyncio.wait([ended], timeout=1)
        print(json.dumps({**state, "connection": connection.connectionState}), flush=True)
    status, _, _ = await asyncio.to_thread(request, "DELETE", session, token)
    print(json.dumps({**state, "ended": status}), flush=True)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
