from contract.cases import CASES


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        names = [case.name for case in CASES]
        metafunc.parametrize("case", CASES, ids=[f"{name}-{names[:i].count(name)}" for i, name in enumerate(names)])
