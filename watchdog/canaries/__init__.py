"""From DICOM files and a recipe to canaries.

Here is everything that knows DICOM: reading it (in a process of its own), refusing what still
identifies a patient, turning pixels into input tensors, and making synthetic images of a thorax.
"""
