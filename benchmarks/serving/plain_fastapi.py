"""FastAPI and ONNX Runtime, the cheapest way: the body as it is, answered on the event loop.

Nothing guards it: a probe waits for the inference before it, and any bad image is a 500.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serving.answering import Answering, artifact_of_this_process

app = FastAPI()
answering = Answering(artifact_of_this_process())


@app.post("/classify")
async def classify(request: Request) -> Response:
    """Label and probability, best first."""
    return Response(answering.answer_json(await request.body()), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False)
