#!/bin/bash
# Run a command with the workspace, and the distribution below it, in its environment.
set -e
source /ws/install/setup.bash
exec "$@"
