# The components of a point share its staging server, so Snakemake starts them and it at once as one group. They take no
# nodes of their own (the server holds the point's), and a thread each: jobs without one starve each other. The group's
# name is what packs are made of: --group-components point=8.


rule simulation:
    input:
        point=f"{POINT}/point.json",
        server=f"{POINT}/server.json",
    output:
        events=f"{POINT}/simulation.parquet",
        capsule=f"{POINT}/simulation.capsule.json",
    log:
        f"{POINT}/logs/simulation.log",
    group:
        "point"
    threads: 1
    resources:
        nodes=0,
        points=0,
        runtime=lambda wildcards: submission.minutes(wildcards.point),
    shell:
        "exec simai-rules run simulation --point {input.point:q} --server {input.server:q} "
        '--parent "$PPID" '
        "--output {output.events:q} > {log:q} 2>&1"


rule training:
    input:
        point=f"{POINT}/point.json",
        server=f"{POINT}/server.json",
    output:
        events=f"{POINT}/training.parquet",
        capsule=f"{POINT}/training.capsule.json",
    log:
        f"{POINT}/logs/training.log",
    group:
        "point"
    threads: 1
    resources:
        nodes=0,
        points=0,
        runtime=lambda wildcards: submission.minutes(wildcards.point),
    shell:
        "exec simai-rules run training --point {input.point:q} --server {input.server:q} "
        '--parent "$PPID" '
        "--output {output.events:q} > {log:q} 2>&1"


# Of the points that have one.
rule inference:
    input:
        point=f"{POINT}/point.json",
        server=f"{POINT}/server.json",
    output:
        events=f"{POINT}/inference.parquet",
        capsule=f"{POINT}/inference.capsule.json",
    log:
        f"{POINT}/logs/inference.log",
    group:
        "point"
    threads: 1
    resources:
        nodes=0,
        points=0,
        runtime=lambda wildcards: submission.minutes(wildcards.point),
    shell:
        "exec simai-rules run inference --point {input.point:q} --server {input.server:q} "
        '--parent "$PPID" '
        "--output {output.events:q} > {log:q} 2>&1"
