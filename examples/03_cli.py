"""The callback from YAML, through pytorch_lightning's command line."""

import importlib.util
from pathlib import Path

from pytorch_lightning.cli import LightningCLI
from torch.utils.data import DataLoader

spec = importlib.util.spec_from_file_location("quickstart", Path(__file__).with_name("00_quickstart.py"))
quickstart = importlib.util.module_from_spec(spec)
spec.loader.exec_module(quickstart)


class DigitsFromYaml(quickstart.DigitsClassifier):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(quickstart.load_data()[0], 64, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(quickstart.load_data()[1], 256)


if __name__ == "__main__":
    LightningCLI(DigitsFromYaml, save_config_callback=None)
