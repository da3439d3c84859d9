"""NODE21's cubes of 1 mm voxels round nodules of LUNA16, with masks."""
