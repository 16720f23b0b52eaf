"""Faults of access that axe finds on a page."""

# The page's policy lets axe fetch no style sheet; no rule that is asked for needs one.
OPTIONS = {"resultTypes": ["violations"], "preload": False}


def serious(axe, page, part="html"):
    """The serious ones of a part of a page: the rule, and the elements that break it."""
    found = axe.run(page, context=part, options=OPTIONS).response["violations"]
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
