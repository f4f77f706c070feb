"""What WHIP and WHEP ask of a client beside its media: three HTTP requests."""

import urllib.request


def request(method, url, token, body=None):
    headers = {"authorization": f"Bearer {token}"}
    if body is not None:
        headers["content-type"] = "application/sdp"
    asked = urllib.request.Request(url, method=method, headers=headers, data=body and body.encode())
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return answer.status, answer.headers, answer.read().decode()
