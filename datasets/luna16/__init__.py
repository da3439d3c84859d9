"""LUNA16: chest CT with the nodules that three of four readers marked."""
