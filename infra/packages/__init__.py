"""Installing the locked packages and writing the lock files; standard library only, as both run before any package."""
