"""sushy-emulator with a driver whose machine is one of the lab's.

Every answer about power comes from the machine as it is; nothing is kept here.
"""

import json
import os
import socket
import sys

import bcrypt
from sushy_tools import error
from sushy_tools.emulator import main
from sushy_tools.emulator.resources.systems.base import AbstractSystemsDriver

SETTINGS = json.loads(sys.argv[1])

# Redfish's words for where a machine boots from, and the panel's.
BOOT = {"None": "none", "Pxe": "pxe", "Hdd": "default", "Cd": "cdrom"}


def panel(line):
    with socket.create_connection(SETTINGS["panel"]) as connection:
        connection.sendall(line.encode() + b"\n")
        answer = connection.makefile().readline().strip()
    if not answer or answer.startswith("refused:"):
        raise error.FishyError(answer or "the panel hung up")
    return answer.split(":")[-1]


class LabDriver(AbstractSystemsDriver):
    @property
    def driver(self):
        return "<lab>"

    @property
    def systems(self):
        return [SETTINGS["uuid"]]

    def uuid(self, identity):
        if identity not in (SETTINGS["uuid"], SETTINGS["name"]):
            raise error.NotFound(f"there is no system {identity}")
        return SETTINGS["uuid"]

    def name(self, identity):
        if identity == SETTINGS["name"]:
            raise error.AliasAccessError(SETTINGS["uuid"])
        self.uuid(identity)
        return SETTINGS["name"]

    def get_power_state(self, identity):
        self.uuid(identity)
        return "On" if panel("get power") == "1" else "Off"

    def set_power_state(self, identity, state):
        self.uuid(identity)
        orders = {
            "On": "power 1",
            "ForceOn": "power 1",
            "ForceOff": "power 0",
            "GracefulShutdown": "shutdown 1",
            "ForceRestart": "reset 1",
            "GracefulRestart": "reset 1",
        }
        if state not in orders:
            raise error.BadRequest(f"a machine of the lab does not know {state}")
        panel(f"set {orders[state]}")

    def get_boot_device(self, identity):
        self.uuid(identity)
        boot = panel("get boot")
        return next(word for word, value in BOOT.items() if value == boot)

    def set_boot_device(self, identity, boot_source):
        self.uuid(identity)
        if boot_source not in BOOT:
            raise error.BadRequest(f"a machine of the lab does not boot from {boot_source}")
        # The emulator does not pass on whether it is for once, and says "Continuous" when it is asked.
        panel(f"set boot-always {BOOT[boot_source]}")

    def get_nics(self, identity):
        self.uuid(identity)
        return [{"id": SETTINGS["mac"], "mac": SETTINGS["mac"]}]


def passwords():
    path = os.path.join(SETTINGS["folder"], "passwords")
    # Checked at every request, so as cheap as bcrypt gets.
    secret = bcrypt.hashpw(SETTINGS["password"].encode(), bcrypt.gensalt(rounds=4))
    with open(path, "w") as file:
        file.write(f"{SETTINGS['user']}:{secret.decode()}\n")
    return path


folder = SETTINGS["folder"]
lab_driver = LabDriver()
main.Application.systems = property(lambda app: lab_driver)
main.app.configure(extra_config={
    "SUSHY_EMULATOR_LISTEN_IP": SETTINGS["host"],
    "SUSHY_EMULATOR_LISTEN_PORT": SETTINGS["port"],
    "SUSHY_EMULATOR_SSL_CERT": os.path.join(folder, "certificate.pem"),
    "SUSHY_EMULATOR_SSL_KEY": os.path.join(folder, "key.pem"),
    "SUSHY_EMULATOR_AUTH_FILE": passwords(),
    "SUSHY_EMULATOR_STATE_DIR": folder,
})
# The settings, with the password, are not the emulator's own arguments.
del sys.argv[1:]
sys.exit(main.main())
