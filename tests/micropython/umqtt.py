# mypy: ignore-errors
# It runs on MicroPython.
"""`umqtt.simple.MQTTClient` as it is documented, in what the adapter uses: the package itself cannot be had
from a package index that pip can install it from.
"""

import socket
import struct


class MQTTException(Exception):
    pass


class MQTTClient:
    def __init__(self, client_id, server, port=1883, user=None, password=None, keepalive=0, ssl=None):
        self.client_id, self.server, self.port, self.keepalive = client_id, server, port, keepalive
        self.sock = None
        self.pid = 0

    def set_callback(self, callback):
        self.cb = callback

    def _string(self, text):
        return struct.pack("!H", len(text)) + text.encode()

    def _send(self, kind, body):
        head, length = bytes([kind]), len(body)
        while length > 127:
            head += bytes([length & 127 | 128])
            length >>= 7
        self.sock.write(head + bytes([length]) + body)

    def connect(self, clean_session=True):
        self.sock = socket.socket()
        self.sock.connect(socket.getaddrinfo(self.server, self.port)[0][-1])
        head = b"\x00\x04MQTT\x04\x02" + struct.pack("!H", self.keepalive)
        self._send(0x10, head + self._string(self.client_id))
        answer = self.sock.read(4)
        if answer[3]:
            raise MQTTException(answer[3])
        return answer[2] & 1

    def disconnect(self):
        self.sock.write(b"\xe0\0")
        self.sock.close()

    def ping(self):
        self.sock.write(b"\xc0\0")

    def publish(self, topic, message, retain=False, qos=0):
        self._send(0x30, self._string(topic) + message)

    def subscribe(self, topic, qos=0):
        self.pid += 1
        self._send(0x82, struct.pack("!H", self.pid) + self._string(topic) + bytes([qos]))
        while self.wait_msg() != 0x90:
            pass
        answer = self.sock.read(4)
        if answer[3] == 0x80:
            raise MQTTException(answer[3])

    def wait_msg(self):
        kind = self.sock.read(1)
        self.sock.setblocking(True)
        if kind is None:
            return None
        if kind == b"":
            raise OSError(-1)
        if kind == b"\xd0":
            self.sock.read(1)
            return None
        if kind[0] & 0xF0 != 0x30:
            return kind[0]
        length = shift = 0
        while True:
            more = self.sock.read(1)[0]
            length |= (more & 127) << shift
            shift += 7
            if more < 128:
                break
        name = self.sock.read(struct.unpack("!H", self.sock.read(2))[0])
        self.cb(name, self.sock.read(length - 2 - len(name)))
        return kind[0]

    def check_msg(self):
        self.sock.setblocking(False)
        return self.wait_msg()
