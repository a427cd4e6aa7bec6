"""Print the API's own document, which `voxdex serve` answers at /v1/openapi.json.

python docs/make_openapi.py
"""

import json
import sys

from api.app import create_app
from indexer.settings import Settings

if __name__ == "__main__":
    json.dump(create_app(Settings()).openapi(), sys.stdout)
