# SPDX-License-Identifier: Apache-2.0
"""Model files brought from elsewhere into a folder, before anything is served.

    sources         a URI -> which kind of place it names
    fetch           one URI into one folder: the only thing other rooms call
    folders         places on this machine, linked; claims, mapped to folders
    http            one file over HTTP
    buckets         the objects below a prefix (S3, Google, Azure), through obstore
    bucket_options  KServe's variables -> what obstore is told
    transfer        bytes into a file, resumed where they broke off
    staging         what is under way lies beside, and is moved when all of it is there
    archives        tar and zip unpacked so that nothing lands or points outside
    progress        a bar on terminals

It starts in containers that do nothing else, so it imports neither the data plane nor pydantic.
"""
