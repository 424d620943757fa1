"""A lookfar server for a test: started on a free port, stopped at the end, its exit status looked at."""
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request


class Server:
    def __init__(self, lookfar, model, *options):
        self.command = [lookfar, "serve", "-q", "-m", model, "--port", "0", *options]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the server did not start: {line}"
        self.url = found.group()
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "/health").close()
                return self
            except urllib.error.HTTPError:  # it listens before the model is loaded
                time.sleep(0.1)
            except urllib.error.URLError as e:
                raise AssertionError(f"the server did not start: {self.process.stderr.read()}") from e
        raise AssertionError("the model was not loaded")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        rest = self.process.stderr.read()
        assert self.process.wait(60) == 0, f"exit status {self.process.returncode}: {rest}"
