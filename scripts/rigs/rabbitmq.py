"""RabbitMQ (Debian's rabbitmq-server) with its management API, as an ordinary or the root user.

Debian's own wrapper scripts change to user rabbitmq and to /var/lib; the scripts below
/usr/lib/rabbitmq do not. Everything listens on 127.0.0.1, the port mapper epmd included.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import urllib.request
from typing import Any

from .base import Rig, certificate, free_ports

HOME = "/usr/lib/rabbitmq/bin"


class RabbitMQ(Rig):
    packages = ("rabbitmq-server", "openssl")
    needs = (f"{HOME}/rabbitmq-server", "/usr/bin/openssl")

    def prepare(self) -> dict[str, Any]:
        amqp, tls, http, dist, epmd = free_ports(5)
        for name in ("mnesia", "log", "plugins", "generated", "home"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        made, key = certificate(self.directory)
        (self.directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{amqp}\n"
            f"listeners.ssl.1 = 127.0.0.1:{tls}\n"
            f"ssl_options.certfile = {made}\n"
            f"ssl_options.keyfile = {key}\n"
            "ssl_options.verify = verify_none\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {http}\n"
            "loopback_users = none\n"
            "default_user = admin\n"
            "default_pass = admin\n"
            "collect_statistics_interval = 500\n"
        )
        return {
            "host": "127.0.0.1",
            "port": amqp,
            "tls_port": tls,
            "ca_file": str(made),
            "vhost": "/",
            "username": "admin",
            "password": "admin",
            "api": f"http://127.0.0.1:{http}/api",
            "dist_port": dist,
            "epmd_port": epmd,
        }

    def environment(self) -> dict[str, str]:
        given, place = self.connection, str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "HOME": f"{place}/home",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_ALLOW_INPUT": "true",  # the scripts exec: their pid is the server's
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"rig{given['port']}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(given["port"]),
            "RABBITMQ_DIST_PORT": str(given["dist_port"]),
            "ERL_EPMD_PORT": str(given["epmd_port"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": f"{place}/mnesia",
            "RABBITMQ_LOG_BASE": f"{place}/log",
            "RABBITMQ_CONFIG_FILE": f"{place}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{place}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{place}/enabled_plugins",
            "RABBITMQ_PLUGINS_EXPAND_DIR": f"{place}/plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{place}/generated",
            "RABBITMQ_PID_FILE": f"{place}/rabbit.pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 2:2 +A 16 -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [f"{HOME}/rabbitmq-server", "-noinput"], self.environment()

    def answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            given = self.connection
            with socket.create_connection((given["host"], given["port"]), 2) as client:
                client.sendall(b"AMQP\x00\x00\x09\x01")
                client.settimeout(2)
                if not client.recv(8):
                    return False
            request = urllib.request.Request(f"{given['api']}/overview")
            request.add_header("Authorization", "Basic YWRtaW46YWRtaW4=")  # admin:admin
            with urllib.request.urlopen(request, timeout=2) as answer:
                return bool(answer.status == 200)
        return False

    def clean(self) -> None:
        """End the port mapper, which every node leaves running."""
        epmd = shutil.which("epmd")
        if epmd and (self.directory / "connection.json").exists():
            subprocess.run(
                [epmd, "-kill"], env=self.environment(), capture_output=True, check=False
            )
