"""The verbs of the command line, one file each. They alone know modules/ and datamodules/."""
