import pytest
def test_probe(project):
    cells = project.configure_quick()
    project.end(**{f"second[{cells[1]}]": "failed"})
    for args in (["--junitxml=j.xml"], ["--lf"], ["--ff"], ["--sw"], ["-x"], ["-p","no:cacheprovider"], ["-n2"], ["-n2", "--dist", "loadgroup"]):
        print("#"*20, args)
        r = project.matrix(*args)
        print(r.results, r.clusters, [c["status"] for c in r.report["cells"]], r.code)
    print((project.path/"j.xml").read_text())
    assert 0
