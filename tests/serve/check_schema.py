"""Requests made up from docs/openapi.yaml by schemathesis, right ones and wrong ones, and their answers held against it.

    check_schema.py LOOKFAR MODEL [EXAMPLES]
"""
import os
import subprocess
import sys

from server import Server


def main():
    lookfar, model = sys.argv[1:3]
    examples = sys.argv[3] if len(sys.argv) > 3 else "40"
    schemathesis = os.path.join(os.path.dirname(sys.executable), "schemathesis")
    with Server(lookfar, model, "-c", "256", "--parallel", "4", "--chat-template", "chatml") as server:
        # what a schema cannot say (an id that is in the vocabulary, a context that is long enough) may be refused, too
        code = subprocess.call([
            schemathesis, "run", "docs/openapi.yaml", "--url", server.url, "--max-examples", examples, "--seed", "1",
            "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            "--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--no-color"])
    print("check_schema:", "ok" if code == 0 else "FAILED")
    sys.exit(code)


if __name__ == "__main__":
    main()
