#!/bin/bash
# A template for --slurm-template: options of your cluster, then commands that prepare the environment.
# The scripts set by themselves: job name, array, dependency, output, folder, signal, requeue.
# A line is used when the first of its two # is removed.

# Where jobs run, and on whose account. All nodes must have the same kind of processor, or on GPUs the same kind of GPU,
# unless the study says kernels = "any".
##SBATCH --partition=main
##SBATCH --account=project
##SBATCH --constraint=cascadelake

# What a task gets: one model is trained at a time.
##SBATCH --time=04:00:00
##SBATCH --cpus-per-task=8
##SBATCH --mem=32G
##SBATCH --gres=gpu:1

# Before its time is over a task writes a checkpoint and goes to the queue again.

# module load cuda
# export HF_HUB_OFFLINE=1
