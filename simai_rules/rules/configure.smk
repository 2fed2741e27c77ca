from simai_rules.config.paths import point_pattern
from simai_rules.config.points import point_json


wildcard_constraints:
    point=point_pattern(),


# The whole resolved config of a point is a parameter: a changed key runs exactly the points again that it touches.
rule configure:
    output:
        f"{POINT}/point.json",
    log:
        f"{POINT}/logs/configure.log",
    localrule: True
    threads: 1
    resources:
        # Like a point, so that it never runs beside one and disturbs what is measured.
        points=1,
    params:
        config=lambda wildcards: point_json(experiment.points[wildcards.point]),
    shell:
        "exec simai-rules configure --config {params.config:q} --output {output:q} > {log:q} 2>&1"
