"""Decoupled models that do what the tests of streams need."""

MODEL = """
import asyncio
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SEEN = []  # of both instances


def words(*texts):
    array = np.array([text.encode() for text in texts], dtype=object)
    return pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", array)])


def number(i):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([i], np.int32))])


def told(send, *arguments, **options):
    try:
        send(*arguments, **options)
    except Exception as why:
        SEEN.append(f"{type(why).__name__}: {why}")


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            how = pb_utils.get_input_tensor_by_name(request, "HOW").as_numpy().item().decode()
            n = pb_utils.get_input_tensor_by_name(request, "N")
            getattr(self, how)(request, 1 if n is None else int(n.as_numpy().item()))

    def count(self, request, n):
        sender = request.get_response_sender()
        for i in range(n):
            sender.send(number(i))
        sender.send(flags=FINAL)

    def later(self, request, n):
        threading.Thread(target=self.count, args=(request, n)).start()

    def report(self, request, n):
        request.get_response_sender().send(words(*SEEN), FINAL)

    def forget(self, request, n):
        request.get_response_sender().send(number(0))

    def ignore(self, request, n):
        pass

    def misuse(self, request, n):
        sender = request.get_response_sender()
        told(sender.send, number(0), 7)
        told(sender.send)
        told(sender.send, [1])
        sender.send(number(0), FINAL)
        told(sender.send, number(1))
        told(sender.send, flags=FINAL)

    def watch(self, request, n):
        sender = request.get_response_sender()
        sender.send(number(0))

        def wait():
            while not (sender.is_cancelled() and request.is_cancelled()):
                threading.Event().wait(0.005)
            sender.send(number(1))
            sender.send(flags=FINAL)
            SEEN.append(f"cancelled {n}")

        threading.Thread(target=wait, daemon=True).start()

    def large(self, request, n):
        sender = request.get_response_sender()

        def send():
            array = np.empty(1 << 18, np.int32)
            for i in range(n):
                array.fill(i)  # a model may use what it has sent again
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
                SEEN.append(f"large {i}")
            sender.send(flags=FINAL)

        threading.Thread(target=send, daemon=True).start()

    def hold(self, request, n):
        SEEN.append(f"hold {n}")
        self.watch(request, n)
        while f"cancelled {n}" not in SEEN:
            threading.Event().wait(0.005)
"""
COROUTINES = """
import asyncio

import numpy as np
import triton_python_backend_utils as pb_utils

WAITING = asyncio.Queue()


class TritonPythonModel:
    async def execute(self, requests):
        for request in requests:
            how = pb_utils.get_input_tensor_by_name(request, "HOW").as_numpy().item().decode()
            sender = request.get_response_sender()
            if how == "fail":
                raise ValueError("it broke")
            if how == "leave":
                raise SystemExit(3)
            if how == "wait":
                event = asyncio.Event()
                await WAITING.put(event)
                await event.wait()
            else:
                (await WAITING.get()).set()
            array = np.array([how.encode()], dtype=object)
            response = pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", array)])
            sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
CONFIG = """backend: "python"
input [ { name: "HOW" data_type: TYPE_STRING dims: [ 1 ] } ]
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] optional: true } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] } ]
model_transaction_policy { decoupled: true }
"""
IDENTITY = """backend: "identity" max_batch_size: 8 dynamic_batching { }
input [ { name: "X" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
