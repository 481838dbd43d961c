"""The configs that the package ships, and their published numbers of parameters."""

from pairs_lit.reproduction.published import REPORTS
from tests.conftest import CONFIGS

RUNNABLE = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("reports/*/*.yaml"), *CONFIGS.glob("further/*.yaml")])
BELHADJ = ("fc", "fc_aux", "cnn", "cnn_aux")
PARAMETERS = {f"{report.folder}/{row.name}": row.parameters for report in REPORTS.values() for row in report.rows}
PARAMETERS |= {name: PARAMETERS[f"reports/belhadj/{name}"] for name in BELHADJ}
PARAMETERS |= {"record": 298_410, "record_members": 3 * 298_410}
