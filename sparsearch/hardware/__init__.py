"""What an allocation costs on a machine: kernels, their measurement, and the cost model made of it."""
