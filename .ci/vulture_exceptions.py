"""Functions, classes and constants that our programs do not use, and why they stay. Read by `.ci/unused.py`."""

LIBRARY = "a library calls it"
SIMULATION = "public: what a program can do with the simulated servos and their world"
READER = "public: reads back what a command writes as JSON"
CODEC = "public: the servo protocol is whole"

EXCEPTIONS = {
    "configure": LIBRARY,
    "do_GET": LIBRARY,
    "forward": LIBRARY,
    "get_observation": LIBRARY,
    "is_calibrated": LIBRARY,
    "log_message": LIBRARY,
    "observation_features": LIBRARY,
    "send_action": LIBRARY,
    "BusPort": SIMULATION,
    "plug_in": SIMULATION,
    "quit": SIMULATION,
    "unblock": SIMULATION,
    "load_report": READER,
    "load_verification": READER,
    "json_schema": "writes report.schema.json",
    "SCHEMA_PATH": "where json_schema is kept",
    "hash": "public: tells whether two arms have the same limits",
    "encode_action": CODEC,
    "encode_read": CODEC,
    "encode_reg_write": CODEC,
    "encode_write": CODEC,
    "MAX_PACKET_BYTES": CODEC,
    "disputed_registers": "public: the registers on which sources disagree",
    "OPTIONAL": "read by the test of TensorRT's bindings",
}
