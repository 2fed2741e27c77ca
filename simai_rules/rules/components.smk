# The components of a point share its staging server, so Snakemake starts them and it at once as one group. They take no
# nodes of their own (the server holds the point's), and a thread each: jobs without one starve each other. The group's
# name is what packs are made of: --group-components point=8.

# The inference is of the points that have one.
for component in ("simulation", "training", "inference"):

    rule:
        name:
            component
        input:
            point=f"{POINT}/point.json",
            server=f"{POINT}/server.json",
        output:
            events=f"{POINT}/{component}.parquet",
            capsule=f"{POINT}/{component}.capsule.json",
        log:
            f"{POINT}/logs/{component}.log",
        group:
            "point"
        threads: 1
        resources:
            nodes=0,
            points=0,
            runtime=lambda wildcards: submission.minutes(wildcards.point),
        params:
            component=component,
        shell:
            "exec simai-rules run {params.component} --point {input.point:q} --server {input.server:q} "
            '--parent "$PPID" '
            "--output {output.events:q} > {log:q} 2>&1"
