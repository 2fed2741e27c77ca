# What each component of each point leaves.
LEFT = [
    f"{BASE}/{path}/{component}"
    for path, point in experiment.points.items()
    for component in point.components
]
EVENTS = [f"{left}.parquet" for left in LEFT]
CAPSULES = [f"{left}.capsule.json" for left in LEFT]


rule summarize:
    input:
        EVENTS,
    output:
        f"{BASE}/summary.parquet",
        f"{BASE}/summary.csv",
    log:
        f"{BASE}/logs/summarize.log",
    localrule: True
    threads: 1
    params:
        points=list(experiment.points),
        results=subpath(output[0], parent=True),
    shell:
        "exec simai-rules summarize --results {params.results:q} --expected <(printf '%s\n' {params.points:q}) "
        "> {log:q} 2>&1"


rule plot:
    input:
        f"{BASE}/summary.parquet",
    output:
        directory(f"{BASE}/figures"),
    log:
        f"{BASE}/logs/plot.log",
    localrule: True
    threads: 1
    params:
        results=subpath(output[0], parent=True),
    shell:
        "exec simai-rules plot --results {params.results:q} > {log:q} 2>&1"


rule report:
    input:
        summary=f"{BASE}/summary.parquet",
        figures=f"{BASE}/figures",
    output:
        f"{BASE}/report.html",
    log:
        f"{BASE}/logs/report.log",
    localrule: True
    threads: 1
    params:
        results=subpath(output[0], parent=True),
    shell:
        "exec simai-rules report {params.results:q} --output {output:q} > {log:q} 2>&1"


# All that an experiment leaves. Snakemake makes a lost file again only if it is asked for by name: the report alone would
# be up to date without the events that it was made from.
rule results:
    input:
        EVENTS + CAPSULES,
        rules.summarize.output,
        rules.plot.output,
        rules.report.output,
