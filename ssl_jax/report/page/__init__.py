"""report.html: one file that shows a run, or several, and asks nobody for anything.

found          what a workdir has for it
numbers        of what a classifier said: per class, calibration, temperature
svg            plots, in the colours of the page
of_run         the sections of one run
of_several     runs compared, over seeds
ablation       what each part of a run added
written        the page of workdirs, as text
page.html      its template, and page.css its looks
"""
