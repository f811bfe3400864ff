"""The signals by which a person or a service stops a command, and their words. Imports nothing that takes time."""

import signal

STOPPING = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "the terminal's end",
    signal.SIGQUIT: "Ctrl-\\",
}
